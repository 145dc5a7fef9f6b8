"""When waiting and running end, and how long a state must last before it is worth a write.

The controller holds `activeDeadlineSeconds` from the container's start. The kubelet counts a pod's own deadline from
the moment it took the pod on, image pull included, so the pod carries both deadlines together, as a backstop for a
controller that is down.
"""

import math
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.api.reasons import ConditionType
from agenttask.api.task import AgentTaskSpec
from agenttask.domain import moment
from agenttask.domain.observation import SeenPod, SeenTask

WAITING_SETTLES: Final = 2.0
RUNNING_SETTLES: Final = 2.0
"""A task's own second, and another in which the kubelet tells the end: it looks at containers once a second."""
NODE_LOST_SECONDS: Final = 300
"""How long after its grace a pod may stay Terminating before its node counts as lost, where the installation says nothing."""
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
    """When the task must have started, counted from its creation, its last back-off or its return from suspension."""
    began = _waits_since(task)
    return None if began is None else began + spec.pending_deadline_seconds


def _waits_since(task: SeenTask) -> float | None:
    status = task.status
    resumed = [one.last_transition_time for one in status.conditions if one.type == ConditionType.SUSPENDED and one.status == "False"]
    instants = [moment.parse(text) for text in (task.metadata.creation_timestamp, status.next_attempt_time, *resumed)]
    return max((instant for instant in instants if instant is not None), default=None)


def active_ends(task: SeenTask, pod: SeenPod, spec: AgentTaskSpec) -> float | None:
    """When the container must have ended, if it has started: what earlier attempts ran is taken off."""
    return None if pod.started is None else pod.started + active_left(task, spec)


def active_left(task: SeenTask, spec: AgentTaskSpec) -> int:
    """How many seconds the next attempt may run."""
    return max(1, spec.active_deadline_seconds - task.status.active_seconds)


def ran_seconds(task: SeenTask, pod: SeenPod | None, now: float) -> int:
    """How long an ended attempt ran, rounded up; of one whose pod went unseen, the longest that it can have run as far as status knows."""
    if pod is None:
        since = [one.last_transition_time for one in task.status.conditions if one.type == ConditionType.POD_READY and one.status == "True"]
        began = moment.parse(since[0]) if since else None
        return 0 if began is None else max(0, math.ceil(now - began))
    if pod.started is None:
        return 0
    end = pod.terminated.finished if pod.terminated is not None else None
    if end is None:
        end = min(now, pod.deletion) if pod.gone and pod.deletion is not None else now  # it went when its grace ended at the latest
    return max(0, math.ceil(end - pod.started))


def backstop_seconds(task: SeenTask, spec: AgentTaskSpec) -> int:
    """The pod's own `activeDeadlineSeconds`."""
    return spec.pending_deadline_seconds + active_left(task, spec)


def retry_at(task: SeenTask) -> float | None:
    """When the next attempt may start, if the task backs off."""
    return moment.parse(task.status.next_attempt_time)


def waiting_settles(task: SeenTask, pod: SeenPod | None) -> float:
    """From when on a waiting reason is worth a write: most pods start before it."""
    began = _waits_since(task) if pod is None else pod.created
    return (began or 0.0) + WAITING_SETTLES + moment.GRAIN


def running_settles(started: float) -> float:
    """From when on Running is worth a write: a task that runs under a second gets none."""
    return started + RUNNING_SETTLES + moment.GRAIN


def until(now: float, *instants: float | None) -> float | None:
    """Seconds to the first of the instants."""
    ahead = [instant for instant in instants if instant is not None]
    return min(LONGEST_SLEEP, max(0.0, min(ahead) - now)) if ahead else None
