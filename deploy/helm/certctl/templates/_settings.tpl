{{/*
The settings of the server come from here alone: plain ones go into its ConfigMap, secret ones into its Secret, and the pod
reads exactly those.
*/}}

{{/* Settings whose value is a secret, wherever they are given. */}}
{{- define "certctl.server.secretNames" -}}
["CERTCTL_BOOTSTRAP_API_KEY","CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN","CERTCTL_ENCRYPTION_KEY","CERTCTL_DATABASE_URL","CERTCTL_DATABASE_PASSWORD"]
{{- end -}}

{{/* A secret that is derived from the first API key: the same at every rendering, and no way back to the key. Takes root and purpose. */}}
{{- define "certctl.derived" -}}
{{- $first := splitList "," .root.Values.server.auth.apiKey | first | trim -}}
{{- printf "certctl %s\n%s/%s\n%s" .purpose .root.Release.Namespace (include "certctl.fullname" .root) $first | sha256sum -}}
{{- end -}}

{{/*
The master key: what was chosen, else what the release has, else a derived one. The latter is 42 characters of a digest as
base64 of 32 bytes.
*/}}
{{- define "certctl.encryptionKey" -}}
{{- $present := lookup "v1" "Secret" .Release.Namespace (include "certctl.server.name" .) | default dict -}}
{{- $kept := dig "data" "CERTCTL_ENCRYPTION_KEY" "" $present -}}
{{- if .Values.server.encryption.key -}}
{{- .Values.server.encryption.key -}}
{{- else if $kept -}}
{{- b64dec $kept -}}
{{- else -}}
{{- printf "%sA=" (include "certctl.derived" (dict "root" . "purpose" "encryption key") | trunc 42) -}}
{{- end -}}
{{- end -}}

{{- define "certctl.agent.token" -}}
{{- if .Values.agent.enrollmentToken -}}
{{- .Values.agent.enrollmentToken -}}
{{- else -}}
{{- printf "cet_%s" (include "certctl.derived" (dict "root" . "purpose" "enrolment token")) -}}
{{- end -}}
{{- end -}}

{{/* URL of PostgreSQL in the cluster; its password is passed beside it. */}}
{{- define "certctl.postgres.url" -}}
{{- $auth := .Values.postgresql.auth -}}
{{- $ca := "" -}}
{{- if hasPrefix "verify-" .Values.postgresql.tls.mode -}}
{{- $ca = "&sslrootcert=/etc/certctl/postgres/ca.crt" -}}
{{- end -}}
{{- printf "postgres://%s@%s.%s.svc:5432/%s?sslmode=%s%s" $auth.username (include "certctl.postgres.name" .) .Release.Namespace $auth.database .Values.postgresql.tls.mode $ca -}}
{{- end -}}

{{/* Data of the server's ConfigMap. */}}
{{- define "certctl.server.settings" -}}
{{- $v := .Values.server -}}
{{- $settings := dict
  "CERTCTL_DATA_DIR" "/var/lib/certctl"
  "CERTCTL_LISTEN" (printf ":%v" $v.port)
  "CERTCTL_PUBLIC_URL" (include "certctl.server.publicURL" .)
  "CERTCTL_TLS_CERTIFICATE" (printf "%s/tls.crt" $v.tls.mountPath)
  "CERTCTL_TLS_KEY" (printf "%s/tls.key" $v.tls.mountPath)
  "CERTCTL_STATUS_LISTEN" "off"
  "CERTCTL_LOG_LEVEL" $v.logging.level
  "CERTCTL_LOG_FORMAT" $v.logging.format
  "CERTCTL_RATE_LIMIT_RPS" $v.rateLimiting.rps
  "CERTCTL_RATE_LIMIT_BURST" $v.rateLimiting.burst
  "CERTCTL_DATABASE_WAIT" "5m"
  "CERTCTL_SHUTDOWN_DELAY" "5s"
  "CERTCTL_KUBERNETES_TOKEN_REVIEW" "on" -}}
{{- if $v.status.enabled -}}
{{- $_ := set $settings "CERTCTL_STATUS_LISTEN" (printf ":%v" $v.status.port) -}}
{{- $_ := set $settings "CERTCTL_STATUS_URL" (default (printf "http://%s:%v" (include "certctl.server.host" .) $v.status.port) $v.status.url) -}}
{{- end -}}
{{- if .Values.postgresql.enabled -}}
{{- $_ := set $settings "CERTCTL_DATABASE_URL" (include "certctl.postgres.url" .) -}}
{{- end -}}
{{- $secret := include "certctl.server.secretNames" . | fromJsonArray -}}
{{- range $name, $value := $v.env -}}
{{- if not (has $name $secret) -}}
{{- $_ := set $settings $name $value -}}
{{- end -}}
{{- end -}}
{{- include "certctl.texts" $settings -}}
{{- end -}}

{{/* Data of the server's Secret; empty when every secret comes from elsewhere. */}}
{{- define "certctl.server.secrets" -}}
{{- $v := .Values.server -}}
{{- $secrets := dict -}}
{{- if not $v.auth.existingSecret -}}
{{- $_ := set $secrets "CERTCTL_BOOTSTRAP_API_KEY" $v.auth.apiKey -}}
{{- end -}}
{{- if not (include "certctl.encryptionKey.source" .) -}}
{{- $_ := set $secrets "CERTCTL_ENCRYPTION_KEY" (include "certctl.encryptionKey" .) -}}
{{- end -}}
{{- if and .Values.agent.enabled (not (include "certctl.agent.tokenSource" .)) -}}
{{- $_ := set $secrets "CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN" (include "certctl.agent.token" .) -}}
{{- end -}}
{{- if not .Values.postgresql.enabled -}}
{{- with .Values.externalDatabase.url -}}
{{- $_ := set $secrets "CERTCTL_DATABASE_URL" . -}}
{{- end -}}
{{- with .Values.externalDatabase.password -}}
{{- $_ := set $secrets "CERTCTL_DATABASE_PASSWORD" . -}}
{{- end -}}
{{- end -}}
{{- range $name := include "certctl.server.secretNames" . | fromJsonArray -}}
{{- if hasKey $v.env $name -}}
{{- $_ := set $secrets $name (get $v.env $name) -}}
{{- end -}}
{{- end -}}
{{- include "certctl.texts" $secrets -}}
{{- end -}}

{{/* Name of the Secret that holds the master key; empty when it is the chart's own. */}}
{{- define "certctl.encryptionKey.source" -}}
{{- if .Values.server.encryption.existingSecret -}}
{{- .Values.server.encryption.existingSecret -}}
{{- else if not .Values.server.encryption.key -}}
{{- .Values.server.auth.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* Name of the Secret that holds the enrolment token; empty when it is the chart's own. */}}
{{- define "certctl.agent.tokenSource" -}}
{{- if .Values.agent.existingSecret -}}
{{- .Values.agent.existingSecret -}}
{{- else if not .Values.agent.enrollmentToken -}}
{{- .Values.server.auth.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* Where the enrolment token stands: the elements secret and key. */}}
{{- define "certctl.agent.tokenRef" -}}
{{- $source := include "certctl.agent.tokenSource" . -}}
{{- if or (not $source) (hasKey .Values.server.env "CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN") -}}
secret: {{ include "certctl.server.name" . }}
key: CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN
{{- else -}}
secret: {{ $source }}
key: enrollment-token
{{- end -}}
{{- end -}}

{{/* Where each secret variable of the server stands: a map of its name to secret, key and optional. */}}
{{- define "certctl.server.secretSources" -}}
{{- $sources := dict -}}
{{- with .Values.server.auth.existingSecret -}}
{{- $_ := set $sources "CERTCTL_BOOTSTRAP_API_KEY" (dict "secret" . "key" "api-key") -}}
{{- end -}}
{{- $_ := set $sources "CERTCTL_ENCRYPTION_KEY" (dict "secret" (include "certctl.encryptionKey.source" .) "key" "encryption-key") -}}
{{- if .Values.agent.enabled -}}
{{- $_ := set $sources "CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN" (include "certctl.agent.tokenRef" . | fromYaml) -}}
{{- end -}}
{{- if .Values.postgresql.enabled -}}
{{- $_ := set $sources "CERTCTL_DATABASE_PASSWORD" (dict "secret" (default (include "certctl.postgres.name" .) .Values.postgresql.auth.existingSecret) "key" "password") -}}
{{- end -}}
{{- if and (not .Values.postgresql.enabled) .Values.externalDatabase.existingSecret -}}
{{- $_ := set $sources "CERTCTL_DATABASE_URL" (dict "secret" .Values.externalDatabase.existingSecret "key" "url") -}}
{{- $_ := set $sources "CERTCTL_DATABASE_PASSWORD" (dict "secret" .Values.externalDatabase.existingSecret "key" "password" "optional" true) -}}
{{- end -}}
{{- range $name, $_ := include "certctl.server.secrets" . | fromYaml -}}
{{- $_ := set $sources $name (dict "secret" (include "certctl.server.name" $) "key" $name) -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end -}}

{{/* Secret variables of the server as a container's env. Takes root, and names where it is not to be all. */}}
{{- define "certctl.server.secretEnv" -}}
{{- range $name, $source := include "certctl.server.secretSources" .root | fromYaml }}
{{- if or (not $.names) (has $name $.names) }}
{{ include "certctl.fromSecret" (merge (dict "name" $name) $source) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Data of the agent's ConfigMap. */}}
{{- define "certctl.agent.settings" -}}
{{- $settings := dict
  "CERTCTL_AGENT_SERVER" (include "certctl.server.url" .)
  "CERTCTL_AGENT_CA_FILE" "/etc/certctl-agent/ca/ca.crt,/etc/certctl-agent/ca/tls.crt"
  "CERTCTL_AGENT_STATE" .Values.agent.keyDir
  "CERTCTL_AGENT_KUBERNETES_TOKEN_FILE" "/var/run/secrets/certctl/token"
  "CERTCTL_AGENT_LOG_FORMAT" "json" -}}
{{- include "certctl.texts" (merge (deepCopy .Values.agent.env) $settings) -}}
{{- end -}}
