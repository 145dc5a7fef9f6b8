{{/* What every pod of ours needs, as rules of egress: DNS, and where its spans go. A policy knows ports of pods, not those of Services. */}}

{{- define "agenttask.commonEgress" -}}
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- with .Values.telemetry.otlpEndpoint }}
{{- $url := urlParse . }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) }}
- ports: [{protocol: TCP, port: {{ $port }}}]
{{- end }}
{{- end -}}
