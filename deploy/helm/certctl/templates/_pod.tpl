{{/* Reference of an image: the digest wins. Takes image and version. */}}
{{- define "certctl.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .version .image.tag }}
{{- end -}}
{{- end -}}

{{/* The fields of a securityContext that act on the pod. */}}
{{- define "certctl.podSecurity" -}}
{{- toYaml (pick . "runAsNonRoot" "runAsUser" "runAsGroup" "fsGroup" "fsGroupChangePolicy" "supplementalGroups" "seccompProfile" "seLinuxOptions" "sysctls") -}}
{{- end -}}

{{/* The fields that act on a container. */}}
{{- define "certctl.containerSecurity" -}}
{{- toYaml (pick . "allowPrivilegeEscalation" "privileged" "procMount" "readOnlyRootFilesystem" "capabilities") -}}
{{- end -}}

{{/* A scalar as text: numbers as they were written, not as 1e+06. */}}
{{- define "certctl.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* A map of environment variables with every value as text. */}}
{{- define "certctl.texts" -}}
{{- $texts := dict -}}
{{- range $name, $value := . -}}
{{- $_ := set $texts $name (include "certctl.text" $value) -}}
{{- end -}}
{{- toYaml $texts -}}
{{- end -}}

{{/* An element of env that reads a key of a Secret. Takes name, secret, key and optional. */}}
{{- define "certctl.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}

{{/* The part of a pod's spec that every component has alike. Takes root, component and values. */}}
{{- define "certctl.podBase" -}}
enableServiceLinks: false
securityContext:
  {{- include "certctl.podSecurity" .values.securityContext | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
A volume with what the server's certificate is trusted by: its CA, or where the Secret names none the certificate's own
chain. Never its key.
*/}}
{{- define "certctl.caVolume" -}}
- name: ca
  projected:
    sources:
      - secret:
          name: {{ include "certctl.server.tlsSecret" . }}
          items:
            - key: tls.crt
              path: tls.crt
      - secret:
          name: {{ include "certctl.server.tlsSecret" . }}
          optional: true
          items:
            - key: ca.crt
              path: ca.crt
{{- end -}}

{{/* The CA by which the database's certificate is verified, where it is. */}}
{{- define "certctl.postgres.caMount" -}}
{{- if and .Values.postgresql.enabled (hasPrefix "verify-" .Values.postgresql.tls.mode) -}}
- name: postgres-ca
  mountPath: /etc/certctl/postgres
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "certctl.postgres.caVolume" -}}
{{- if and .Values.postgresql.enabled (hasPrefix "verify-" .Values.postgresql.tls.mode) -}}
- name: postgres-ca
  secret:
    secretName: {{ .Values.postgresql.tls.existingSecret }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end -}}
{{- end -}}
