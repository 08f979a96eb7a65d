{{- define "cutover.name" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "cutover.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "cutover.name" .) -}}
{{- end -}}

{{- define "cutover.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cutover.prometheusSources" -}}
{{- $file := dict -}}
{{- with .Values.prometheus.default -}}{{- $_ := set $file "default" . -}}{{- end -}}
{{- with .Values.prometheus.sources -}}{{- $_ := set $file "sources" . -}}{{- end -}}
{{- with $file -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{- define "cutover.labels" -}}
{{ include "cutover.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
