{{/* What the values must say together. Each refusal says how to go on. */}}
{{- define "certctl.checks" -}}
{{- $v := .Values.server -}}
{{- $generate := "openssl rand -base64 32" -}}
{{- $byHand := "--set server.tls.existingSecret=SECRET (a kubernetes.io/tls Secret)" -}}
{{- $byManager := "--set server.tls.certManager.enabled=true --set server.tls.certManager.issuerRef.name=ISSUER" -}}
{{- if and $v.tls.existingSecret $v.tls.certManager.enabled -}}
{{- fail "\nserver.tls: choose EXACTLY ONE TLS ownership path; existingSecret and certManager.enabled are both set.\n  to keep the Secret:    --set server.tls.certManager.enabled=false\n  to keep cert-manager:  --set server.tls.existingSecret=" -}}
{{- end -}}
{{- if not (or $v.tls.existingSecret $v.tls.certManager.enabled) -}}
{{- fail (printf "\nserver.tls: the server needs a certificate; choose EXACTLY ONE TLS ownership path:\n  a Secret of yours:  %s\n  cert-manager:       %s" $byHand $byManager) -}}
{{- end -}}
{{- if and $v.tls.certManager.enabled (not $v.tls.certManager.issuerRef.name) -}}
{{- fail (printf "\nserver.tls.certManager.issuerRef.name: cert-manager needs an issuer:\n  %s" $byManager) -}}
{{- end -}}
{{- if not (or $v.auth.apiKey $v.auth.existingSecret) -}}
{{- fail (printf "\nserver.auth: auth.type=api-key needs a key; give one of:\n  a new key:          --set server.auth.apiKey=\"$(%s)\"\n  a Secret of yours:  --set server.auth.existingSecret=SECRET (keys api-key, encryption-key and enrollment-token)" $generate) -}}
{{- end -}}
{{- if and $v.auth.apiKey $v.auth.existingSecret -}}
{{- fail "\nserver.auth: apiKey and existingSecret are both set; leave out one of them" -}}
{{- end -}}
{{- range $key := splitList "," $v.auth.apiKey -}}
{{- if and $v.auth.apiKey (lt (len (trim $key)) 24) -}}
{{- fail (printf "\nserver.auth.apiKey: each key must have at least 24 characters; make one with: %s" $generate) -}}
{{- end -}}
{{- end -}}
{{- if and $v.encryption.key $v.encryption.existingSecret -}}
{{- fail "\nserver.encryption: key and existingSecret are both set; leave out one of them" -}}
{{- end -}}
{{- if and .Values.agent.enrollmentToken .Values.agent.existingSecret -}}
{{- fail "\nagent: enrollmentToken and existingSecret are both set; leave out one of them" -}}
{{- end -}}
{{- include "certctl.checks.database" . -}}
{{- include "certctl.checks.rest" . -}}
{{- end -}}

{{- define "certctl.checks.database" -}}
{{- $pg := .Values.postgresql -}}
{{- $external := .Values.externalDatabase -}}
{{- if $pg.enabled -}}
{{- if not (or $pg.auth.password $pg.auth.existingSecret) -}}
{{- fail "\npostgresql.auth: PostgreSQL needs a password, there is no default; give one of:\n  a new password:     --set postgresql.auth.password=\"$(openssl rand -base64 32)\"\n  a Secret of yours:  --set postgresql.auth.existingSecret=SECRET (key password)\nor use a database of yours: --set postgresql.enabled=false --set externalDatabase.url=postgres://..." -}}
{{- end -}}
{{- if and $pg.auth.password $pg.auth.existingSecret -}}
{{- fail "\npostgresql.auth: password and existingSecret are both set; leave out one of them" -}}
{{- end -}}
{{- if or $external.url $external.existingSecret $external.password (hasKey .Values.server.env "CERTCTL_DATABASE_URL") -}}
{{- fail "\nexternalDatabase: the chart's own PostgreSQL is enabled as well; to use yours: --set postgresql.enabled=false" -}}
{{- end -}}
{{- if and (has $pg.tls.mode (list "require" "verify-ca" "verify-full")) (not $pg.tls.existingSecret) -}}
{{- fail (printf "\npostgresql.tls: mode %s needs a certificate: --set postgresql.tls.existingSecret=SECRET (a kubernetes.io/tls Secret with ca.crt)" $pg.tls.mode) -}}
{{- end -}}
{{- else -}}
{{- if not (or $external.url $external.existingSecret (hasKey .Values.server.env "CERTCTL_DATABASE_URL")) -}}
{{- fail "\nexternalDatabase: with postgresql.enabled=false the server needs a database; give one of:\n  --set externalDatabase.url=\"postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full\"\n  --set externalDatabase.existingSecret=SECRET (key url)\n  server.env.CERTCTL_DATABASE_URL" -}}
{{- end -}}
{{- if and $external.existingSecret (or $external.url $external.password) -}}
{{- fail "\nexternalDatabase: existingSecret and url or password are both set; leave out one of them" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "certctl.checks.rest" -}}
{{- $agent := .Values.agent -}}
{{- if and $agent.enabled (eq $agent.kind "Deployment") (eq $agent.persistence.type "hostPath") (gt (int $agent.replicas) 1) -}}
{{- fail "\nagent: several agents of a Deployment may meet on one node, but no two can share a directory there; use kind DaemonSet, one replica, or persistence.type emptyDir" -}}
{{- end -}}
{{- if and .Values.kubernetesSecrets.enabled (not $agent.enabled) -}}
{{- fail "\nkubernetesSecrets.enabled: it is agents of the cluster that write Secrets; set agent.enabled=true" -}}
{{- end -}}
{{- if and .Values.backup.enabled .Values.backup.withMasterKey (not .Values.backup.ageRecipients) -}}
{{- fail "\nbackup.withMasterKey: the master key is never written in the open; set backup.ageRecipients (age-keygen makes a key)" -}}
{{- end -}}
{{- if and (ne (toString .Values.podDisruptionBudget.minAvailable) "") (ne (toString .Values.podDisruptionBudget.maxUnavailable) "") -}}
{{- fail "\npodDisruptionBudget: minAvailable and maxUnavailable are both set; Kubernetes takes one of them" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "\ningress.hosts: the Ingress needs a host: --set ingress.hosts[0].host=certctl.example.com" -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.ingress.certManager.enabled (not .Values.ingress.certManager.issuerRef.name) -}}
{{- fail "\ningress.certManager.issuerRef.name: cert-manager needs an issuer: --set ingress.certManager.issuerRef.name=ISSUER" -}}
{{- end -}}
{{- end -}}
