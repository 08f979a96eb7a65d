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

{{- /* A JSON object in the order of the list, which a map would lose. */}}
{{- define "cutover.herokuKeyFiles" -}}
{{- $pairs := list -}}
{{- range .Values.heroku.keys -}}
{{- $pairs = append $pairs (printf "%s: %s" (toJson .namespaces) (toJson .file)) -}}
{{- end -}}
{ {{- join ", " $pairs -}} }
{{- end -}}

{{- define "cutover.labels" -}}
{{ include "cutover.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "cutover.drainSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-drain
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cutover.drainLabels" -}}
{{ include "cutover.drainSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "cutover.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cutover.image" -}}
{{- $image := .Values.image -}}
{{- required "image.repository: where the operator's image is" $image.repository -}}
{{- with $image.digest }}@{{ . }}{{ else }}:{{ $image.tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "cutover.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "cutover.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
