"""Kueue without a dependency on it: a task with Kueue's queue label has a pod that Kueue's plain-pod integration takes up.

The pod carries the label, says that Kueue manages it, and is kept from the scheduler by Kueue's gate until Kueue takes the
gate away. Kueue's webhook sets the same; that they are ours too keeps a pod from slipping past a quota while the webhook is
away. Its finalizer is Kueue's own: without a Kueue nobody would take that away again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
MANAGED_LABEL: Final = "kueue.x-k8s.io/managed"
GATE: Final = "kueue.x-k8s.io/admission"
LABELS: Final = frozenset({QUEUE_LABEL, PRIORITY_LABEL, MANAGED_LABEL})
_MANAGED: Final = "true"


def pod_labels(task_labels: Mapping[str, str]) -> dict[str, str]:
    """What a pod takes over from the labels of its task; nothing without a queue."""
    queue = task_labels.get(QUEUE_LABEL)
    if not queue:
        return {}
    priority = {name: value for name, value in task_labels.items() if name == PRIORITY_LABEL}
    return {QUEUE_LABEL: queue, MANAGED_LABEL: _MANAGED, **priority}


def pod_fields(task_labels: Mapping[str, str]) -> dict[str, Any]:
    """What such a pod's spec has besides."""
    return {"schedulingGates": [{"name": GATE}]} if task_labels.get(QUEUE_LABEL) else {}


def agrees(pod_labels: Mapping[str, str], gates: Sequence[str]) -> bool:
    """Whether a pod has all of it or nothing."""
    if LABELS.isdisjoint(pod_labels):
        return not gates
    return bool(pod_labels.get(QUEUE_LABEL)) and pod_labels.get(MANAGED_LABEL) == _MANAGED and list(gates) == [GATE]
