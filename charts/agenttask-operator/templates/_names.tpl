{{/* Names of at most 63 characters. A name that is cut gets a hash, so that two long ones stay apart. */}}

{{- define "agenttask.cut" -}}
{{- $name := .name -}}
{{- if gt (len $name) (int .limit) -}}
{{- printf "%s-%s" (trunc (int (sub .limit 9)) $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- else -}}
{{- $name | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "agenttask.name" -}}
{{- include "agenttask.cut" (dict "name" (default .Chart.Name .Values.nameOverride) "limit" 63) -}}
{{- end -}}

{{/* Leaves room for suffixes such as -config and -test. */}}
{{- define "agenttask.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- include "agenttask.cut" (dict "name" (default $full .Values.fullnameOverride) "limit" 50) -}}
{{- end -}}

{{/* The gateway's Secret (unless one exists) and Service. */}}
{{- define "agenttask.gatewayName" -}}
{{- include "agenttask.fullname" . }}-gateway
{{- end -}}

{{/* The Secret that the gateway reads. */}}
{{- define "agenttask.gatewaySecret" -}}
{{- default (include "agenttask.gatewayName" .) .Values.gateway.existingSecret -}}
{{- end -}}

{{/* The name in the certificate, and in the URL that pods are told. */}}
{{- define "agenttask.gatewayHost" -}}
{{- printf "%s.%s.svc" (include "agenttask.gatewayName" .) .Release.Namespace -}}
{{- end -}}

{{/* Where tasks run, as a namespaceSelector. */}}
{{- define "agenttask.taskNamespaces" -}}
{{- $names := include "agenttask.namespaces" . | fromJsonArray -}}
{{- if $names -}}
matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: {{ toJson $names }}}]
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* For what lives outside the release's namespace; such names may have 253 characters. */}}
{{- define "agenttask.outerName" -}}
{{- printf "%s-%s" .Release.Namespace (include "agenttask.fullname" .) -}}
{{- end -}}

{{- define "agenttask.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "agenttask.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "agenttask.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agenttask.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "agenttask.labels" -}}
helm.sh/chart: {{ include "agenttask.cut" (dict "name" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")) "limit" 63) }}
app.kubernetes.io/name: {{ include "agenttask.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: agenttask
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Image reference: `dict "context" . "image" .Values.images.runner`. */}}
{{- define "agenttask.image" -}}
{{- $repository := .image.repository -}}
{{- with .context.Values.images.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (trimPrefix "localhost/" $repository) -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .context.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The watched namespaces as JSON, as `fromJsonArray` reads it; empty means all of them. */}}
{{- define "agenttask.namespaces" -}}
{{- if eq .Values.rbac.scope "cluster" -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | uniq | toJson -}}
{{- end -}}
{{- end -}}
