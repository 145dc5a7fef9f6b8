{{/* All that the controller may do in a watched namespace. No Secrets, no wildcard, no exec; a test reads this. */}}
{{- define "agenttask.rules" -}}
- apiGroups: [agenttask.dev]
  resources: [agenttasks]
  verbs: [get, list, watch]
- apiGroups: [agenttask.dev]
  resources: [agentmodels, agentqueues]
  verbs: [list, watch]
- apiGroups: [agenttask.dev]
  resources: [agenttasks/status, agentqueues/status]
  verbs: [patch]
# After ttlSecondsAfterFinished.
- apiGroups: [agenttask.dev]
  resources: [agenttasks]
  verbs: [delete]
# What attempts hand on; they go with their task, by owner reference.
- apiGroups: [agenttask.dev]
  resources: [agenttaskrecords]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
# Why a node does not prepare a pod's claimed device is told in an event only.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# To tell a task that waits for its input from one that can start.
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims]
  verbs: [list, watch]
{{- end -}}
