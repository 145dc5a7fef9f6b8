"""What to do about a task, decided from what is seen: no I/O, no clock; the same input gives the same plan.

Order matters. A pod that has ended is taken as it ended, whatever else is wrong. An attempt on record without a pod is
over, and its fate unknown; one whose pod was refused is taken off record before it waits. A DELETE comes before the
status that makes a task final: it then leaves the stream, and nobody would look after its pod. Attempt n+1 is planned
only when status says that attempt n is over.
"""

from typing import Final

from msgspec import Struct

from agenttask.api.reasons import ConditionType, Phase, Reason
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus
from agenttask.domain import attempts, deadlines, fallback, lifecycle, outcome, waiting
from agenttask.domain.conditions import holds
from agenttask.domain.lifecycle import AttemptEnd
from agenttask.domain.observation import Admitted, Observation, Refused, Rejection, SeenPod, SeenTask, Waits

MANAGER: Final = "agenttask.dev/controller"
"""`spec.managedBy` of the tasks that are ours, besides those that name nobody."""

AT_ONCE: Final = 0.01
"""Seconds: the pass has made news of its own."""


class CreatePod(Struct, frozen=True, kw_only=True):
    """POST the pod of this attempt; a `record` is written first, and without it there is no POST."""

    attempt: int = 1
    record: AgentTaskStatus | None = None


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
    spec, pod = task.spec, seen.pod
    if seen.attempt != attempts.current(task):
        return Plan(requeue_after=AT_ONCE)  # a look from before the status: look again
    if spec is None:
        return _refuse(task, seen, Refused(reason=Reason.INVALID_TASK, message=task.problem), now)
    if spec.managed_by not in (None, MANAGER):
        return Plan()
    if pod is not None and pod.finished:
        return _ended(task, spec, seen, pod, now)
    if spec.cancel or spec.suspend:
        return _stopped(task, spec, seen, now)
    if pod is None:
        return _without_pod(task, spec, seen, now)
    if pod.deletion is not None:
        return _leaving(task, spec, seen, pod, now)
    return _running(task, spec, seen, pod, now) if pod.started is not None else _starting(task, spec, seen, pod, now)


def _without_pod(task: SeenTask, spec: AgentTaskSpec, seen: Observation, now: float) -> Plan:
    if holds(task.status.conditions, ConditionType.SUSPENDED):
        return Plan(status=lifecycle.resumed(task, seen, now), requeue_after=AT_ONCE)
    certain = not (spec.execution.at_most_once and task.status.node_name)  # it may have begun there after all
    if attempts.on_record(task) and certain and fallback.given_up(task, seen):
        return _moved(task, seen, now)
    if attempts.on_record(task) and not seen.unanswered and seen.rejection is None:
        message = f"pod {task.status.pod_name} is gone, and nobody saw how it ended"
        return _over(task, spec, seen, outcome.Outcome(reason=Reason.LOST, message=message), now, known=False)
    again = deadlines.retry_at(task)
    if again is not None and now < again:
        return Plan(requeue_after=deadlines.until(now, again))
    match seen.admission, seen.rejection:
        case Refused() as never, _:
            return _refuse(task, seen, never, now)
        case Admitted(), Rejection(passing=False) as rejection:
            return _refuse(task, seen, Refused(reason=rejection.reason, message=rejection.message, accepted=True), now)
        case Waits() as waits, _:
            return _wait(task, spec, seen, waits, now)
    ends = deadlines.pending_ends(task, spec)
    if ends is not None and now >= ends:
        return _too_late(task, spec, seen, _last_wait(task, seen), now)
    to_record = spec.execution.at_most_once and not attempts.on_record(task)
    record = lifecycle.recorded(task, seen, seen.attempt, now) if to_record else None
    return Plan(actions=(CreatePod(attempt=seen.attempt, record=record),))


def _stopped(task: SeenTask, spec: AgentTaskSpec, seen: Observation, now: float) -> Plan:
    """Cancelled or suspended: the pod goes first, with its grace, and its end is waited for."""
    pod = seen.pod
    if pod is not None and pod.deletion is None:
        return Plan(actions=(_delete(pod, "spec.cancel" if spec.cancel else "spec.suspend"),), requeue_after=deadlines.LONGEST_SLEEP)
    if pod is not None:
        return _leaving(task, spec, seen, pod, now)
    if spec.cancel:
        return Plan(status=lifecycle.finished(task, seen, attempts.cancelled(None), now))
    if attempts.on_record(task) and not seen.never_made:
        return _over(task, spec, seen, outcome.Outcome(reason=Reason.LOST), now, known=False)
    if task.status.phase is Phase.SUSPENDED:
        return Plan()
    return Plan(status=lifecycle.suspended(task, seen, None, now))


def _starting(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    ends, falls = deadlines.pending_ends(task, spec), fallback.due(task, spec, seen, pod)
    if fallback.held_up(pod) is not None and fallback.given_up(task, seen):
        return Plan(actions=(_delete(pod, "device.fallbackAfterSeconds"),), requeue_after=deadlines.LONGEST_SLEEP)
    if falls is not None and now >= falls and (ends is None or now < ends):
        device = fallback.overdue(task, seen, pod, now)
        return Plan(status=lifecycle.giving_up(task, seen, device, now), requeue_after=AT_ONCE)
    match waiting.why(pod, seen.missing_input):
        case Refused() as never:
            return _refuse(task, seen, never, now)
        case Waits() as waits:
            again = falls if falls is not None else fallback.looks_again(task, spec, pod, now)
            return _wait(task, spec, seen, waits, now, *([again] if again is not None else []))


def _running(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    ends = deadlines.active_ends(task, pod, spec)
    if ends is not None and now >= ends:
        status = _if_changed(task, lifecycle.running(task, seen, pod, now))
        if status is not None and task.status.phase is not Phase.RUNNING:
            # On record first: a controller that is killed after the DELETE must know how long it ran.
            return Plan(status=status, requeue_after=AT_ONCE)
        # Its last words and its end arrive by the watch; status waits for them.
        return Plan(actions=(_delete(pod, "activeDeadlineSeconds"),), requeue_after=deadlines.LONGEST_SLEEP)
    settles = deadlines.running_settles(pod.started or now)
    if now < settles:
        return Plan(requeue_after=deadlines.until(now, settles, ends))
    status = lifecycle.running(task, seen, pod, now)
    if _if_changed(task, status) is not None or seen.live is None or status.steps == task.status.steps:
        return Plan(status=_if_changed(task, status), requeue_after=deadlines.until(now, ends))
    if now < seen.live_due:
        return Plan(requeue_after=deadlines.until(now, seen.live_due, ends))
    return Plan(status=status, requeue_after=deadlines.until(now, ends))


def _leaving(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    """The pod is being deleted: wait for its end, but not for a node that is lost.

    Nor for a driver that prepared nothing: without it the kubelet ends no pod with claims, and prepares none that it is to end. Where
    the control plane took the pod away its node may be lost, and what that last said is no word of what it did since.
    """
    never_begins = pod.unprepared is not None and not pod.disrupted and not spec.execution.at_most_once
    lost_at = (pod.deletion or now) + (0.0 if never_begins else seen.node_lost_seconds)
    if now < lost_at:
        silent = fallback.asks_node_from(pod) is not None and pod.deletion is not None and now < pod.deletion
        return Plan(requeue_after=deadlines.until(now, lost_at, pod.deletion if silent else None))  # its node may say more until then
    if never_begins and not spec.cancel and not spec.suspend and fallback.given_up(task, seen):
        return _moved(task, seen, now)
    ends = deadlines.active_ends(task, pod, spec)
    if outcome.late(pod, ends):
        reason, why = Reason.DEADLINE_EXCEEDED, outcome.too_long(spec.active_deadline_seconds)
    else:
        reason, why = Reason.LOST, f"pod {pod.name} was deleted"
    message = f"{why}; node {pod.node or 'unknown'} has not told its end for {now - (pod.deletion or now):.0f} s"
    return _over(task, spec, seen, outcome.Outcome(reason=reason, message=message), now, known=outcome.fate_known(pod))


def _ended(task: SeenTask, spec: AgentTaskSpec, seen: Observation, pod: SeenPod, now: float) -> Plan:
    taken = pod.started is None and (pod.deletion is not None or pod.gone)
    removed = taken and pod.terminated is None
    certain = not spec.execution.at_most_once or outcome.fate_known(pod)
    if taken and certain and not spec.cancel and not spec.suspend and fallback.given_up(task, seen):
        return _moved(task, seen, now)
    if (removed or outcome.never_started(pod)) and not spec.cancel and not spec.suspend:
        # Perhaps we deleted it and were stopped before the status, or were away until its own deadline: the cause is still to be seen.
        ends, why = deadlines.pending_ends(task, spec), waiting.why(pod, seen.missing_input)
        if isinstance(why, Refused):
            return _refuse(task, seen, why, now)
        if ends is not None and min(now, pod.deletion or now) >= ends:  # a deletion's time is the end of its grace
            return _too_late(task, spec, seen, why, now)
    ends = deadlines.active_ends(task, pod, spec)
    ended = outcome.of(pod, deadline=ends, seconds=spec.active_deadline_seconds, stored=seen.stored, disbelieved=seen.disbelieved)
    return _over(task, spec, seen, ended, now, known=outcome.fate_known(pod))


def _over(task: SeenTask, spec: AgentTaskSpec, seen: Observation, ended: outcome.Outcome, now: float, *, known: bool) -> Plan:
    """The attempt is over: the task ends with it, or waits for the next one."""
    match attempts.after(task, spec, seen, ended, now, known=known):
        case attempts.Finish(end=end):
            return Plan(actions=_leftover(seen.pod, end), status=lifecycle.finished(task, seen, end, now))
        case attempts.Again(end=end, at=at):
            return Plan(status=lifecycle.between(task, seen, end, now, retry_at=at), requeue_after=deadlines.until(now, at))
        case attempts.Elsewhere(end=end):
            return Plan(status=lifecycle.elsewhere(task, seen, end, now), requeue_after=AT_ONCE)
        case attempts.Pause(end=end):
            return Plan(status=lifecycle.suspended(task, seen, end, now))


def _moved(task: SeenTask, seen: Observation, now: float) -> Plan:
    """The pod that gave its device class up is gone."""
    end = attempts.moved(seen, task.status.device)
    return Plan(status=lifecycle.elsewhere(task, seen, end, now), requeue_after=AT_ONCE)


def _leftover(pod: SeenPod | None, end: AttemptEnd) -> tuple[Action, ...]:
    """A pod that still lives when its task ends."""
    return (_delete(pod, end.reason),) if pod is not None and not pod.finished and pod.deletion is None else ()


def _wait(task: SeenTask, spec: AgentTaskSpec, seen: Observation, waits: Waits, now: float, *wake: float) -> Plan:
    """Write the reason once it has settled, and again only when it is another; give up at the deadline."""
    ends = deadlines.pending_ends(task, spec)
    if ends is not None and now >= ends:
        return _too_late(task, spec, seen, waits, now)
    settles = deadlines.waiting_settles(task, seen.pod)
    if now < settles and not (attempts.on_record(task) and seen.never_made):
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
    """A state on the way is written when phase, reason, pod or place in the line is another; messages change all the time."""
    old = task.status
    before, after = ((one.phase, one.reason, one.pod_name, one.queue_position) for one in (old, status))
    return None if before == after else status
