{{- define "sockring.name" -}}
{{- $name := ternary .Release.Name (printf "%s-sockring" .Release.Name) (contains "sockring" .Release.Name) }}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sockring.selector" -}}
app.kubernetes.io/name: sockring
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sockring.labels" -}}
{{ include "sockring.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
