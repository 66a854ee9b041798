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

{{/* password is the one setting that comes from a Secret. */}}
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
RESHELF_LEDGER: "file:///ledger"
RESHELF_LOG_LEVEL: {{ .Values.logLevel | quote }}
{{- end }}

{{- define "reshelf.roots" -}}
{{- $roots := list }}
{{- range .Values.archives }}{{ $roots = append $roots (printf "file:///archives/%s" .name) }}{{ end }}
{{- required "archives is required: at least one that the workers may touch" (join "," $roots) }}
{{- end }}

{{- define "reshelf.ledgerVolume" -}}
- name: "ledger"
  persistentVolumeClaim:
    claimName: {{ required "ledger.existingClaim is required: the PersistentVolumeClaim of the ledger" .Values.ledger.existingClaim | quote }}
{{- end }}
