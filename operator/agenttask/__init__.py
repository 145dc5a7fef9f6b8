"""agenttask: agent and inference tasks that run to completion on Kubernetes. ARCHITECTURE.md is the map."""
