"""Our controller beside Kubernetes' own Job controller, on a control plane of its own; `python -m bench.control --help`."""
