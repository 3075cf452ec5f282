{{/* A StatefulSet puts a hash of eleven characters behind its name, into labels of at most 63. */}}
{{- define "minivault.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "minivault.selector" -}}
app.kubernetes.io/name: minivault
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "minivault.labels" -}}
{{ include "minivault.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The names that clients inside and outside of the cluster use, with commas between them. */}}
{{- define "minivault.hosts" -}}
{{- $name := include "minivault.name" . -}}
{{- $within := printf "%s.%s" $name .Release.Namespace -}}
{{- $hosts := list $name $within (printf "%s.svc" $within) (printf "%s.svc.%s" $within .Values.clusterDomain) -}}
{{- if .Values.ingress.enabled }}{{ $hosts = append $hosts .Values.ingress.host }}{{ end -}}
{{- with .Values.settings.allowed_hosts }}{{ $hosts = append $hosts (include "minivault.setting" .) }}{{ end -}}
{{- join "," $hosts -}}
{{- end -}}

{{/* One setting as a variable has it: lists with commas, and large numbers with all their digits. */}}
{{- define "minivault.setting" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}
