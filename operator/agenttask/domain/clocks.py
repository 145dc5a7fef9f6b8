"""Nodes with a wrong clock: the kubelet's times, moved to where they can be.

A pod's creation is of the API server's clock, its container's start and end are of the node's. A container that started
before its pod was created, or in the future, was started on a node whose clock is off: then its start counts as the pod's
creation (as Kubernetes itself counts a pod's deadline, waiting included), and how long it ran stays what the node says.
Of one that was deleted it is what we say: it ran until then, so that a pod deleted at its deadline has reached it, however long
it had waited before.
"""

from typing import Final

import msgspec

from agenttask.domain.observation import SeenPod, Terminated

TOLERATED_SECONDS: Final = 5.0
"""Clocks of a cluster differ by less, and whole seconds hide one more."""


def on_our_clock(pod: SeenPod, now: float) -> SeenPod:
    """The pod with the times of its container moved together, if they cannot be."""
    if pod.created is None or pod.started is None:
        return pod
    if pod.created - TOLERATED_SECONDS <= pod.started <= now + TOLERATED_SECONDS:
        return pod
    shift = pod.created - pod.started
    return msgspec.structs.replace(pod, running_since=_moved(pod.running_since, shift), terminated=_ended(pod, shift, now))


def _ended(pod: SeenPod, shift: float, now: float) -> Terminated | None:
    end = pod.terminated
    if end is None:
        return None
    finished = _moved(end.finished, shift)
    if finished is not None and pod.deletion is not None:
        finished = max(finished, min(now, pod.deletion))
    return msgspec.structs.replace(end, started=_moved(end.started, shift), finished=finished)


def _moved(instant: float | None, shift: float) -> float | None:
    return None if instant is None else instant + shift
