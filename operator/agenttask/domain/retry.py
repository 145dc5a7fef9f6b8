"""Whether an attempt that ended badly is followed by another one, and when: three classes of failure, two counters.

The pause grows from `backoff.initialSeconds` by `factor` up to `maxSeconds`, for each counter by itself, and is spread
by up to a tenth. The spread is computed from uid and attempt, so that a controller that starts anew waits no longer.
"""

import hashlib
from enum import Enum
from typing import Final

from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, Backoff

SPREAD: Final = 0.1
_MOST_DOUBLINGS: Final = 64


class Failure(Enum):
    """Who is at fault, and so which limit counts."""

    PERMANENT = "permanent"
    """The same would come again: no attempt follows."""
    APPLICATION = "application"
    """The task's own doing: `retry.limit`."""
    INFRASTRUCTURE = "infrastructure"
    """The cluster's doing: `retry.maxInfrastructureRestarts`."""


FAILURES: Final = {
    Reason.STEP_FAILED: Failure.APPLICATION,
    Reason.MODEL_UNAVAILABLE: Failure.APPLICATION,
    Reason.RATE_LIMITED: Failure.APPLICATION,
    Reason.OUT_OF_MEMORY: Failure.APPLICATION,
    Reason.SOFT_DEADLINE_REACHED: Failure.APPLICATION,
    Reason.RUNNER_CRASHED: Failure.APPLICATION,
    Reason.LOST: Failure.INFRASTRUCTURE,
    Reason.POD_REJECTED: Failure.INFRASTRUCTURE,
    Reason.DEVICE_UNAVAILABLE: Failure.INFRASTRUCTURE,
    Reason.INVALID_TEMPLATE: Failure.PERMANENT,
    Reason.INVALID_TASK: Failure.PERMANENT,
    Reason.UNKNOWN_PLUGIN: Failure.PERMANENT,
    Reason.MODEL_REJECTED: Failure.PERMANENT,
    Reason.IMAGE_ERROR: Failure.PERMANENT,
    Reason.OUTPUT_TOO_LARGE: Failure.PERMANENT,
    Reason.OUTPUT_REJECTED: Failure.PERMANENT,
    Reason.DEADLINE_EXCEEDED: Failure.PERMANENT,
}
"""Every way in which an attempt can end badly."""


def limit_of(spec: AgentTaskSpec, failure: Failure) -> int:
    """How many more attempts may follow failures of this class."""
    match failure:
        case Failure.PERMANENT:
            return 0
        case Failure.APPLICATION:
            return spec.retry.limit
        case Failure.INFRASTRUCTURE:
            return spec.retry.max_infrastructure_restarts


def pause(backoff: Backoff, count: int, *, uid: str, attempt: int) -> float:
    """Seconds before the next attempt after the `count`-th failure of a class."""
    grown: int = backoff.initial_seconds * backoff.factor ** min(max(count, 1) - 1, _MOST_DOUBLINGS)
    digest = hashlib.sha256(f"{uid}/{attempt}".encode()).digest()
    return min(grown, backoff.max_seconds) * (1.0 + SPREAD * int.from_bytes(digest[:4]) / 2**32)


def exhausted(failure: Failure) -> Reason:
    """The terminal reason of a task that used up its attempts, where it may have more than one."""
    return Reason.INFRASTRUCTURE_LIMIT_EXCEEDED if failure is Failure.INFRASTRUCTURE else Reason.BACKOFF_LIMIT_EXCEEDED
