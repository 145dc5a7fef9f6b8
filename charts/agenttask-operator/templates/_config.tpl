{{/* The controller's config.yaml; its keys are those of controller/settings.py, and a test loads the one with the other. */}}
{{- define "agenttask.config" -}}
{{- $classes := list -}}
{{- $names := list -}}
{{- range .Values.deviceClasses -}}
{{- if has .name $names -}}
{{- fail (printf "deviceClasses has %q twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range .Values.defaultDeviceClasses -}}
{{- if not (has . $names) -}}
{{- fail (printf "defaultDeviceClasses names %q, which is none of deviceClasses: %s" . (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- $runner := include "agenttask.image" (dict "context" . "image" .Values.images.runner) -}}
{{- $torch := include "agenttask.image" (dict "context" . "image" .Values.images.runnerTorch) -}}
{{- $images := dict "runner" $runner "runnerTorch" $torch "pullPolicy" .Values.images.pullPolicy "pullSecrets" .Values.images.pullSecrets -}}
{{- $gateway := dict "enabled" .Values.gateway.enabled "url" (printf "https://%s:8443" (include "agenttask.gatewayHost" .)) -}}
{{- dict
  "namespaces" (include "agenttask.namespaces" . | fromJsonArray)
  "images" $images
  "nodes" .Values.rbac.nodes
  "deviceClasses" .Values.deviceClasses
  "defaultDeviceClasses" .Values.defaultDeviceClasses
  "taskDefaults" .Values.taskDefaults
  "secretGlobs" .Values.secretGlobs
  "reservedSecrets" (list (include "agenttask.gatewaySecret" .))
  "allowedTolerations" .Values.allowedTolerations
  "allowedPriorityClasses" .Values.allowedPriorityClasses
  "allowedRuntimeClasses" .Values.allowedRuntimeClasses
  "allowedServiceAccounts" .Values.allowedServiceAccounts
  "credentialImages" .Values.credentialImages
  "allowedHosts" .Values.allowedHosts
  "hubDownloads" .Values.hubDownloads
  "maxRunningTasks" (int .Values.maxRunningTasks)
  "waitingWritesPerSecond" (int .Values.waitingWritesPerSecond)
  "runnerEnvironment" .Values.runnerEnvironment
  "outputStore" (dict "url" .Values.outputStore.url "secretName" .Values.outputStore.secretName "options" .Values.outputStore.options "maxBytes" (int64 .Values.outputStore.maxBytes))
  "plugins" .Values.plugins
  "telemetry" .Values.telemetry
  "logging" .Values.logging
  "featureGates" .Values.featureGates
  "leaderElection" (merge (dict "enabled" true "leaseName" (include "agenttask.fullname" .) "namespace" .Release.Namespace) .Values.leaderElection)
  "gateway" $gateway
| toYaml -}}
{{- end -}}
