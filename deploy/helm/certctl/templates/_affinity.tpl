{{/*
The affinity of the server's pods: server.affinity and the maps nodeAffinity, podAffinity and podAntiAffinity together, so
that what each demands holds. Preferences and demands on other pods are lists whose elements all count. The terms of a
demand on nodes are alternatives, so each of one map is combined with each of the other.
*/}}
{{- define "certctl.server.affinity" -}}
{{- $all := deepCopy .Values.server.affinity -}}
{{- range $kind := list "nodeAffinity" "podAffinity" "podAntiAffinity" -}}
{{- $one := deepCopy (default dict (get $all $kind)) -}}
{{- $other := index $.Values $kind -}}
{{- range $rule, $value := $other -}}
{{- if not (get $one $rule) -}}
{{- $_ := set $one $rule $value -}}
{{- else if kindIs "slice" $value -}}
{{- $_ := set $one $rule (concat (get $one $rule) $value) -}}
{{- else -}}
{{- $terms := list -}}
{{- range $a := (get $one $rule).nodeSelectorTerms -}}
{{- range $b := $value.nodeSelectorTerms -}}
{{- $term := dict -}}
{{- range $field := list "matchExpressions" "matchFields" -}}
{{- with concat (default list (get $a $field)) (default list (get $b $field)) -}}
{{- $_ := set $term $field . -}}
{{- end -}}
{{- end -}}
{{- $terms = append $terms $term -}}
{{- end -}}
{{- end -}}
{{- $_ := set $one $rule (dict "nodeSelectorTerms" $terms) -}}
{{- end -}}
{{- end -}}
{{- if $one -}}
{{- $_ := set $all $kind $one -}}
{{- end -}}
{{- end -}}
{{- if and (gt (include "certctl.server.replicas" . | int) 1) (not $all.podAntiAffinity) -}}
{{- $selector := include "certctl.selector" (dict "root" . "component" "server") | fromYaml -}}
{{- $term := dict "labelSelector" (dict "matchLabels" $selector) "topologyKey" "kubernetes.io/hostname" -}}
{{- $_ := set $all "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) -}}
{{- end -}}
{{- with $all -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "certctl.server.spread" -}}
{{- if .Values.server.topologySpreadConstraints -}}
{{- toYaml .Values.server.topologySpreadConstraints -}}
{{- else if gt (include "certctl.server.replicas" . | int) 1 -}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "certctl.selector" (dict "root" . "component" "server") | nindent 6 }}
{{- end -}}
{{- end -}}
