"""Whether the attempt that a token speaks for may still write: a pure look at what the caches know.

A pod that was declared lost may live on where nobody sees it, with its token. It must not overwrite what the next
attempt has left. The record's own `attempt` (records.py) is the second fence, for a replica whose view is late.
"""

from enum import Enum, auto

from agenttask.api.gateway import TokenClaims
from agenttask.domain.observation import SeenPod, SeenTask


class Standing(Enum):
    """What the caches say of an attempt."""

    CURRENT = auto()
    OVER = auto()
    """For good: the task is final, gone or another one, a later attempt runs, or the pod has ended."""
    UNKNOWN = auto()
    """The attempt is later than this replica's view of the task: ask again."""


def standing(claims: TokenClaims, task: SeenTask | None, pod: SeenPod | None) -> Standing:
    """Where the attempt stands; `pod` is that attempt's pod, None while no watch has shown it."""
    if task is None or (task.namespace, task.metadata.name) != (claims.namespace, claims.task):
        return Standing.OVER
    phase = task.status.phase
    if task.metadata.deletion_timestamp is not None or (phase is not None and phase.terminal):
        return Standing.OVER
    current = task.status.ended_attempts + 1
    if claims.attempt > current:
        return Standing.UNKNOWN
    if claims.attempt < current or (pod is not None and pod.finished):
        return Standing.OVER
    return Standing.CURRENT
