"""What to do about a task, decided from what is seen: no I/O, no clock; the same input gives the same plan.

Order matters. A pod that has ended is taken as it ended, whatever else is wrong. A task with an attempt on record and
no pod is Lost, and never run again in silence. A DELETE comes before the status that makes it final: a task that is
final leaves the stream, and nobody would look after its pod.
"""

from msgspec import Struct

from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus
from agenttask.domain import deadlines, lifecycle, outcome, waiting
from agenttask.domain.observation import Admitted, Observation, Refused, Rejection, SeenPod, SeenTask, Waits


class CreatePod(Struct, frozen=True, kw_only=True):
    """POST the pod of this attempt."""

    attempt: int = 1


class DeletePod(Struct, frozen=True, kw_only=True):
    """DELETE a pod, if it is still the one with this uid."""

    name: str
    uid: str
    why: str


Action = CreatePod | DeletePod


class Plan(Struct, frozen=True, kw_only=True):
    """Actions in their order, then at most one status; `requeue_after` seconds until time alone may change the plan."""

    actions: tuple[Action, ...] = ()
    status: AgentTaskStatus | None = None
    requeue_after: float | None = None


def plan(task: SeenTask, seen: Observation, now: float) -> Plan:
    """What to do now."""
    phase = task.status.phase
    if task.metadata.deletion_timestamp is not None or (phase is not None and phase.terminal):
        return Plan()
    if task.spec is None:
        return _refuse(task, seen, Refused(reason=Reason.INVALID_TASK, message=task.problem), now)
    if seen.pod is None:
        return _without_pod(task, task.spec, seen, now)
    if seen.pod.finished:
        return _ended(task, task.spec, seen, seen.pod, now)
    if seen.pod.started is not None:
        return _running(task, task.spec, seen, seen.pod, now)
    return _starting(task, task.spec, seen, seen.pod, now)


def _without_pod(task: SeenTask, spec: AgentTaskSpec, seen: Observation, now: float) -> Plan:
    if task.status.pod_name:
        lost = outcome.Outcome(reason=Reason.LOST, message=f"pod {task.status.pod_name} is gone, and nobody saw how it ended")
        return Plan(status=lifecycle.finished(task, seen, lost, now))
    match seen.admission, seen.rejection:
        case Refused() as never, _:
            return _refuse(task, seen, never, now)
        case Admitted(), Rejection(retry_at=None) as rejection:
            return _refuse(task, seen, Refused(reason=rejection.reason, message=rejection.message, accepted=True), now)
        case Waits() as waits, _:
            return _wait(task, spec, seen, waits, now)
        case Admitted(), Rejection(retry_at=float(retry_at)) as rejection if now < retry_at:
            return _wait(task, spec, seen, Waits(reason=rejection.reason, message=rejection.message), now, retry_at)
    ends = deadlines.pending_ends(task, spec)
    if ends is not None and now >= ends:
        return _too_late(task, spec, seen, _last_wait(task, seen), now)
    return Plan(actions=(CreatePod(),))


def _starting(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    if pod.deletion is not None:
        return _leaving(task, spec, seen, pod, now)
    match waiting.why(pod, seen.missing_input):
        case Refused() as never:
            return _refuse(task, seen, never, now)
        case Waits() as waits:
            return _wait(task, spec, seen, waits, now)


def _running(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    if pod.deletion is not None:
        return _leaving(task, spec, seen, pod, now)
    ends = deadlines.active_ends(pod, spec)
    if ends is not None and now >= ends:
        # Its last words and its end arrive by the watch; status waits for them.
        return Plan(actions=(_delete(pod, "activeDeadlineSeconds"),), requeue_after=deadlines.LONGEST_SLEEP)
    settles = deadlines.running_settles(pod.started or now)
    if now < settles:
        return Plan(requeue_after=deadlines.until(now, settles, ends))
    status = lifecycle.running(task, seen, pod, now)
    return Plan(status=_if_changed(task, status), requeue_after=deadlines.until(now, ends))


def _leaving(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    """The pod is being deleted: wait for its end, but not for a node that is lost."""
    lost_at = (pod.deletion or now) + deadlines.NODE_LOST_SECONDS
    if now < lost_at:
        return Plan(requeue_after=deadlines.until(now, lost_at))
    ends = deadlines.active_ends(pod, spec)
    if ends is not None and pod.deletion is not None and pod.deletion >= ends:
        reason, why = Reason.DEADLINE_EXCEEDED, outcome.too_long(spec.active_deadline_seconds)
    else:
        reason, why = Reason.LOST, f"pod {pod.name} was deleted"
    message = f"{why}; node {pod.node or 'unknown'} has not told its end for {deadlines.NODE_LOST_SECONDS:.0f} s"
    return Plan(status=lifecycle.finished(task, seen, outcome.Outcome(reason=reason, message=message), now))


def _ended(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    if pod.terminated is None and pod.started is None and (pod.deletion is not None or pod.gone):
        # Perhaps we deleted it and were stopped before the status: the cause is still to be seen.
        ends, why = deadlines.pending_ends(task, spec), waiting.why(pod, seen.missing_input)
        if isinstance(why, Refused):
            return _refuse(task, seen, why, now)
        if ends is not None and (pod.deletion or now) >= ends:
            return _too_late(task, spec, seen, why, now)
    ended = outcome.of(pod, deadline=deadlines.active_ends(pod, spec), seconds=spec.active_deadline_seconds)
    return Plan(status=lifecycle.finished(task, seen, ended, now))


def _wait(task: SeenTask, spec: AgentTaskSpec, seen: Observation, waits: Waits, now: float, *wake: float) -> Plan:
    """Write the reason once it has settled, and again only when it is another; give up at the deadline."""
    ends = deadlines.pending_ends(task, spec)
    if ends is not None and now >= ends:
        return _too_late(task, spec, seen, waits, now)
    settles = deadlines.waiting_settles(task, seen.pod)
    if now < settles:
        return Plan(requeue_after=deadlines.until(now, settles, ends, *wake))
    status = _if_changed(task, lifecycle.waiting(task, seen, waits, now))
    return Plan(status=status, requeue_after=deadlines.until(now, ends, *wake))


def _too_late(task: SeenTask, spec: AgentTaskSpec, seen: Observation, waits: Waits, now: float) -> Plan:
    message = f"not started within {spec.pending_deadline_seconds} s; waiting for {waits.reason}: {waits.message}"
    return _refuse(task, seen, Refused(reason=Reason.PENDING_DEADLINE_EXCEEDED, message=message, accepted=True), now)


def _last_wait(task: SeenTask, seen: Observation) -> Waits:
    """What the task waited for when its deadline found it ready: the controller was away, or a quota was in the way."""
    if seen.rejection is not None:
        return Waits(reason=seen.rejection.reason, message=seen.rejection.message)
    reason = task.status.reason
    known = Reason(reason) if reason in set(Reason) else Reason.POD_STARTING
    return Waits(reason=known, message=task.status.message or "the controller came to it too late")


def _refuse(task: SeenTask, seen: Observation, never: Refused, now: float) -> Plan:
    """Fail before the container ran; a pod that is there goes first."""
    pod = seen.pod
    actions = (_delete(pod, never.reason),) if pod is not None and not pod.finished and pod.deletion is None else ()
    status = lifecycle.refused(task, seen, never.reason, never.message, now, accepted=never.accepted)
    return Plan(actions=actions, status=status)


def _delete(pod: SeenPod, why: str) -> DeletePod:
    return DeletePod(name=pod.name, uid=pod.uid, why=why)


def _if_changed(task: SeenTask, status: AgentTaskStatus) -> AgentTaskStatus | None:
    """A state on the way is written when phase or reason is another; their messages change all the time."""
    old = task.status
    same = (old.phase, old.reason, old.pod_name) == (status.phase, status.reason, status.pod_name)
    return None if same else status
