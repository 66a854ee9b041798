{{- define "reshelf.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "reshelf.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "reshelf.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "reshelf.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "reshelf.labels" -}}
{{- with .Values.commonLabels }}{{ range $k, $v := . }}{{ $k | quote }}: {{ $v | quote }}
{{ end }}{{ end -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: "reshelf"
{{ include "reshelf.selector" . }}
{{- end }}

{{- define "reshelf.selector" -}}
app.kubernetes.io/name: {{ include "reshelf.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "reshelf.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "reshelf.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* image of a component: (list . "worker") */}}
{{- define "reshelf.image" -}}
{{- $top := index . 0 }}{{ $image := (index $top.Values (index . 1)).image -}}
{{- printf "%s:%s" $image.repository (default $top.Chart.AppVersion $image.tag) }}
{{- end }}

{{/* podSecurity and containerSecurity satisfy the Pod Security Standard "restricted". */}}
{{- define "reshelf.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: "RuntimeDefault"
{{ toYaml .Values.podSecurityContext }}
{{- end }}

{{- define "reshelf.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: ["ALL"]
{{- end }}

{{/* password and credentials are the settings that come from Secrets. */}}
{{- define "reshelf.password" -}}
{{- if .Values.redis.existingSecret -}}
- name: "RESHELF_REDIS_PASSWORD"
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret | quote }}
      key: {{ .Values.redis.existingSecretKey | quote }}
{{- end }}
{{- end }}

{{/* settings that all parts share. */}}
{{- define "reshelf.settings" -}}
RESHELF_REDIS: {{ required "redis.address is required: where Redis is, such as redis://redis:6379" .Values.redis.address | quote }}
RESHELF_PREFIX: {{ .Values.redis.prefix | quote }}
RESHELF_LEDGER: {{ include "reshelf.ledger" . | quote }}
RESHELF_LOG_LEVEL: {{ .Values.logLevel | quote }}
{{- end }}

{{- define "reshelf.roots" -}}
{{- $roots := list }}
{{- range .Values.archives }}{{ $roots = append $roots (.url | default (printf "file:///archives/%s" .name)) }}{{ end }}
{{- required "archives is required: at least one that the workers may touch" (join "," $roots) }}
{{- end }}

{{/* ledger is the root of the ledger. */}}
{{- define "reshelf.ledger" -}}
{{- if .Values.ledger.url -}}
{{- if or .Values.ledger.existingClaim .Values.ledger.subPath }}{{ fail "ledger.url and ledger.existingClaim exclude each other" }}{{ end -}}
{{- .Values.ledger.url }}
{{- else -}}
{{- $claim := required "ledger.existingClaim is required: the PersistentVolumeClaim of the ledger; or ledger.url" .Values.ledger.existingClaim -}}
file:///ledger
{{- end }}
{{- end }}

{{/* ledgerVolume is empty where the ledger is in a bucket. */}}
{{- define "reshelf.ledgerVolume" -}}
{{- if not .Values.ledger.url -}}
- name: "ledger"
  persistentVolumeClaim:
    claimName: {{ .Values.ledger.existingClaim | quote }}
{{- end }}
{{- end }}

{{/* s3Settings, s3Credentials, s3Mounts and s3Volumes are how a pod reaches buckets. Each may be empty. */}}
{{- define "reshelf.s3Settings" -}}
{{- with .Values.s3.endpoint }}
AWS_ENDPOINT_URL_S3: {{ . | quote }}
{{- end }}
{{- with .Values.s3.region }}
AWS_REGION: {{ . | quote }}
{{- end }}
{{- if .Values.s3.profilesSecret }}
AWS_SHARED_CREDENTIALS_FILE: "/etc/reshelf/profiles/credentials"
{{- end }}
{{- if .Values.s3.caConfigMap }}
AWS_CA_BUNDLE: "/etc/reshelf/ca/ca.crt"
{{- end }}
{{- if .Values.s3.stores.buckets }}
RESHELF_STORES: "/etc/reshelf/stores/stores.yaml"
{{- end }}
{{- end }}

{{- define "reshelf.s3Credentials" -}}
{{- with .Values.s3.credentialsSecret -}}
- name: "AWS_ACCESS_KEY_ID"
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: "AWS_ACCESS_KEY_ID"
- name: "AWS_SECRET_ACCESS_KEY"
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: "AWS_SECRET_ACCESS_KEY"
- name: "AWS_SESSION_TOKEN"
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: "AWS_SESSION_TOKEN"
      optional: true
{{- end }}
{{- end }}

{{- define "reshelf.s3Mounts" -}}
{{- range $name, $set := dict "stores" .Values.s3.stores.buckets "profiles" .Values.s3.profilesSecret "ca" .Values.s3.caConfigMap }}
{{- if $set }}
- name: {{ $name | quote }}
  mountPath: {{ printf "/etc/reshelf/%s" $name | quote }}
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- define "reshelf.s3Volumes" -}}
{{- if .Values.s3.stores.buckets }}
- name: "stores"
  configMap:
    name: {{ printf "%s-stores" (include "reshelf.fullname" .) | quote }}
{{- end }}
{{- with .Values.s3.profilesSecret }}
- name: "profiles"
  secret:
    secretName: {{ . | quote }}
    items: [{key: "credentials", path: "credentials"}]
{{- end }}
{{- with .Values.s3.caConfigMap }}
- name: "ca"
  configMap:
    name: {{ . | quote }}
    items: [{key: "ca.crt", path: "ca.crt"}]
{{- end }}
{{- end }}
