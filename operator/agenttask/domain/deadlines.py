"""When waiting and running end, and how long a state must last before it is worth a write.

The controller holds `activeDeadlineSeconds` from the container's start. The kubelet counts a pod's own deadline from
the moment it took the pod on, image pull included, so the pod carries both deadlines together, as a backstop for a
controller that is down.
"""

from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.api.task import AgentTaskSpec
from agenttask.domain import moment
from agenttask.domain.observation import SeenPod, SeenTask

WAITING_SETTLES: Final = 2.0
RUNNING_SETTLES: Final = 2.0
"""A task's own second, and another in which the kubelet tells the end: it looks at containers once a second."""
NODE_LOST_SECONDS: Final = 300.0
"""How long after its grace a pod may stay Terminating before its node counts as lost."""
LONGEST_SLEEP: Final = 600.0
"""A timer is looked at again at least so often: the wall clock may jump."""


def check_deadlines(spec: AgentTaskSpec) -> None:
    """Refuse a soft deadline that would never come before the active one.

    Raises:
        InvalidTask: with both.
    """
    soft, active = spec.soft_deadline_seconds, spec.active_deadline_seconds
    if soft is not None and soft >= active:
        raise InvalidTask(
            "spec.softDeadlineSeconds", f"{soft} is not less than activeDeadlineSeconds ({active}); shorten it, or raise that"
        )


def pending_ends(task: SeenTask, spec: AgentTaskSpec) -> float | None:
    """When the task must have started."""
    created = moment.parse(task.metadata.creation_timestamp)
    return None if created is None else created + spec.pending_deadline_seconds


def active_ends(pod: SeenPod, spec: AgentTaskSpec) -> float | None:
    """When the container must have ended, if it has started."""
    return None if pod.started is None else pod.started + spec.active_deadline_seconds


def backstop_seconds(spec: AgentTaskSpec) -> int:
    """The pod's own `activeDeadlineSeconds`."""
    return spec.pending_deadline_seconds + spec.active_deadline_seconds


def waiting_settles(task: SeenTask, pod: SeenPod | None) -> float:
    """From when on a waiting reason is worth a write: most pods start before it."""
    began = moment.parse(task.metadata.creation_timestamp) if pod is None else pod.created
    return (began or 0.0) + WAITING_SETTLES + moment.GRAIN


def running_settles(started: float) -> float:
    """From when on Running is worth a write: a task that runs under a second gets none."""
    return started + RUNNING_SETTLES + moment.GRAIN


def until(now: float, *instants: float | None) -> float | None:
    """Seconds to the first of the instants."""
    ahead = [instant for instant in instants if instant is not None]
    return min(LONGEST_SLEEP, max(0.0, min(ahead) - now)) if ahead else None
