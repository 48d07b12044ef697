{{- define "certctl.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "certctl.server.name" -}}{{ include "certctl.fullname" . }}-server{{- end -}}
{{- define "certctl.postgres.name" -}}{{ include "certctl.fullname" . }}-postgres{{- end -}}
{{- define "certctl.agent.name" -}}{{ include "certctl.fullname" . }}-agent{{- end -}}

{{/* A cluster-scoped name. No namespace and no release has a colon in its name, so no two releases share one. */}}
{{- define "certctl.clusterName" -}}
{{- if eq .name .root.Release.Namespace -}}
{{- .name -}}
{{- else -}}
{{- printf "%s:%s" .name .root.Release.Namespace -}}
{{- end -}}
{{- end -}}

{{- define "certctl.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "certctl.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Agents that write Secrets have a ServiceAccount of their own. */}}
{{- define "certctl.agent.serviceAccount" -}}
{{- if and .Values.kubernetesSecrets.enabled .Values.serviceAccount.create -}}
{{- include "certctl.agent.name" . -}}
{{- else -}}
{{- include "certctl.serviceAccount" . -}}
{{- end -}}
{{- end -}}

{{/* Host by which pods of the cluster reach the server. */}}
{{- define "certctl.server.host" -}}{{ include "certctl.server.name" . }}.{{ .Release.Namespace }}.svc{{- end -}}

{{- define "certctl.server.url" -}}https://{{ include "certctl.server.host" . }}:{{ .Values.server.service.port }}{{- end -}}

{{- define "certctl.server.publicURL" -}}
{{- if .Values.server.publicURL -}}
{{- .Values.server.publicURL -}}
{{- else if and .Values.ingress.enabled .Values.ingress.hosts -}}
https://{{ (first .Values.ingress.hosts).host }}
{{- else -}}
{{- include "certctl.server.url" . -}}
{{- end -}}
{{- end -}}

{{/* Secret with the server's certificate, whoever writes it. */}}
{{- define "certctl.server.tlsSecret" -}}
{{- if .Values.server.tls.certManager.enabled -}}
{{- default (printf "%s-tls" (include "certctl.server.name" .)) .Values.server.tls.certManager.secretName -}}
{{- else -}}
{{- .Values.server.tls.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* Replicas of the server that there are at least. */}}
{{- define "certctl.server.replicas" -}}
{{- ternary .Values.server.autoscaling.minReplicas .Values.server.replicas .Values.server.autoscaling.enabled -}}
{{- end -}}

{{/* Labels by which the pods of a component are selected; they never change. Takes root and component. */}}
{{- define "certctl.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object. Takes root and component, which is empty for what all components share. */}}
{{- define "certctl.labels" -}}
{{- $own := include "certctl.selector" . | fromYaml -}}
{{- $own = merge $own (dict
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/part-of" "certctl"
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_")) -}}
{{- toYaml (merge $own .root.Values.commonLabels) -}}
{{- end -}}

{{/* Labels of a pod: without the chart's version, which would roll every pod at every release of the chart. */}}
{{- define "certctl.podLabels" -}}
{{- toYaml (merge (include "certctl.selector" . | fromYaml) .root.Values.commonLabels) -}}
{{- end -}}
