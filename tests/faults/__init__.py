"""Faults on a real control plane: a proxy that misbehaves by plan, a fake kubelet, and one checker for every run."""
