{{- define "minivault.name" -}}
{{- printf "%s" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "minivault.labels" -}}
app.kubernetes.io/name: minivault
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "minivault.selector" -}}
app.kubernetes.io/name: minivault
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
