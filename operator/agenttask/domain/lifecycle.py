"""The status of a task in each state of its life, complete, from conditions down to the phase.

A status is always built whole from what is seen; what the pod once told (node, device, start) is kept when the pod
is gone.
"""

import math
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.meta import Condition, ConditionStatus
from agenttask.api.reasons import ConditionType, Phase, Reason
from agenttask.api.report import Report, shorten
from agenttask.api.task import AgentTaskStatus, DeviceStatus, OutputRef
from agenttask.domain import deadlines, fallback, moment, progress
from agenttask.domain.conditions import phase_of, terminal, with_condition
from agenttask.domain.observation import Observation, SeenPod, SeenTask, StoredOutput, Waits
from agenttask.domain.outcome import Outcome
from agenttask.domain.retry import Failure

MAX_MESSAGE: Final = 1024
MAX_MODELS: Final = 16384
"""Sixty-four names of AgentModels fit; what a third party's step calls its model may be any text."""


class AttemptEnd(Struct, frozen=True, kw_only=True):
    """How an attempt ended and what follows for the task: `failure` None counts for no limit."""

    reason: Reason
    message: str
    outcome: Outcome | None = None
    failure: Failure | None = None
    device: DeviceStatus | None = None
    """What status says of devices from now on, where the attempt gave its class up."""


def waiting(task: SeenTask, seen: Observation, waits: Waits, now: float) -> AgentTaskStatus:
    """Queued without a pod, Starting with one; the reason says what for."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", waits.reason, waits.message)
    status = draft.status(seen, waits.reason, waits.message, live=seen.pod is not None)
    return msgspec.structs.replace(status, queue_position=waits.position)


def giving_up(task: SeenTask, seen: Observation, device: DeviceStatus, now: float) -> AgentTaskStatus:
    """The pod found no node for too long: its class is given up, and it is deleted next."""
    message = device.tried[-1].verdict
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", Reason.UNSCHEDULABLE, message)
    return msgspec.structs.replace(draft.status(seen, Reason.UNSCHEDULABLE, message), device=device)


def elsewhere(task: SeenTask, seen: Observation, end: AttemptEnd, now: float) -> AgentTaskStatus:
    """An attempt gave its device class up, and the next one follows on another at once."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", Reason.FALLING_BACK, end.message)
    status = _after(task, draft.status(seen, Reason.FALLING_BACK, end.message, live=False), seen, end, now)
    if seen.pod is None or seen.pod.started is None:
        return status
    # What ran waits in line again from now on: its pending deadline is not that of its first attempt.
    return msgspec.structs.replace(status, next_attempt_time=moment.render(math.floor(now)))


def running(task: SeenTask, seen: Observation, pod: SeenPod, now: float) -> AgentTaskStatus:
    """The container runs; how far it is shows in what it tells the gateway, and in the report that it leaves."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "True", Reason.POD_RUNNING, since=pod.started)
    steps = progress.steps_of(task.spec.steps, seen.live, pod, ended=False, now=now) if task.spec is not None else ()
    waits = seen.waits_for_record
    status = draft.status(seen, Reason.RECORD_QUOTA_EXCEEDED if waits else Reason.POD_RUNNING, waits or None)
    return msgspec.structs.replace(status, steps=steps, progress=progress.progress_of(steps))


def refused(task: SeenTask, seen: Observation, reason: Reason, message: str, now: float, *, accepted: bool) -> AgentTaskStatus:
    """Failed before its container ran; `accepted` is False where the task itself is at fault."""
    draft = _Draft(task, now)
    if accepted:
        draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    else:
        draft.set(ConditionType.ACCEPTED, "False", reason, message)
    if draft.has(ConditionType.POD_READY):
        draft.set(ConditionType.POD_READY, "False", reason, message)
    draft.settle(ConditionType.SUSPENDED, reason)
    draft.set(ConditionType.FAILED, "True", reason, message)
    status = draft.status(seen, reason, message)
    return msgspec.structs.replace(status, completion_time=moment.render(now))


def finished(task: SeenTask, seen: Observation, end: AttemptEnd, now: float) -> AgentTaskStatus:
    """The last attempt has ended, and so has the task; `end.reason` is Succeeded, CancelledByUser or why it failed."""
    pod, success = seen.pod, end.reason is Reason.SUCCEEDED
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", end.reason, end.message)
    draft.settle(ConditionType.SUSPENDED, end.reason)
    draft.set(ConditionType.COMPLETE if success else ConditionType.FAILED, "True", end.reason, end.message)
    status = _after(task, draft.status(seen, end.reason, end.message), seen, end, now)
    report = end.outcome.report if end.outcome is not None else None
    finished_at = pod.terminated.finished if pod is not None and pod.terminated is not None else None
    return msgspec.structs.replace(
        status,
        progress=progress.progress_of(status.steps, succeeded=success),
        output=_output(report, seen.stored) if success else None,
        output_ref=_output_ref(report, seen.stored) if success else None,
        completion_time=moment.render(now if finished_at is None else min(finished_at, now)),
    )


def _output(report: Report | None, stored: StoredOutput | None) -> str | None:
    """The output as far as the status has room for it."""
    if report is None or not report.handed_over:
        return report.output if report is not None else None
    return stored.text if stored is not None else None


def _output_ref(report: Report | None, stored: StoredOutput | None) -> OutputRef | None:
    """Where it is otherwise."""
    if report is None or not report.handed_over or stored is None or stored.text is not None:
        return None
    return stored.ref


def between(task: SeenTask, seen: Observation, end: AttemptEnd, now: float, *, retry_at: float) -> AgentTaskStatus:
    """An attempt has ended and another one follows."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", Reason.BACKING_OFF, end.message)
    status = _after(task, draft.status(seen, Reason.BACKING_OFF, end.message, live=False), seen, end, now)
    return msgspec.structs.replace(status, next_attempt_time=moment.render(math.ceil(retry_at)))


def suspended(task: SeenTask, seen: Observation, end: AttemptEnd | None, now: float) -> AgentTaskStatus:
    """There is no pod, and there will be none until `suspend` is taken back; `end` is that of the attempt which it stopped."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.SUSPENDED, "True", Reason.SUSPENDED)
    draft.set(ConditionType.POD_READY, "False", Reason.SUSPENDED)
    status = draft.status(seen, Reason.SUSPENDED, Reason.SUSPENDED.describe(), live=False)
    return status if end is None else _after(task, status, seen, end, now)


def resumed(task: SeenTask, seen: Observation, now: float) -> AgentTaskStatus:
    """`suspend` was taken back: the task waits in line again, from now on."""
    draft = _Draft(task, now)
    draft.set(ConditionType.SUSPENDED, "False", Reason.RESUMED)
    draft.set(ConditionType.POD_READY, "False", Reason.RESUMED)
    return draft.status(seen, Reason.RESUMED, Reason.RESUMED.describe(), live=False)


def recorded(task: SeenTask, seen: Observation, attempt: int, now: float) -> AgentTaskStatus:
    """An attempt is on record before its pod is made (`atMostOnce`)."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", Reason.POD_STARTING)
    status = draft.status(seen, Reason.POD_STARTING, None)
    return msgspec.structs.replace(status, phase=Phase.STARTING, attempt=attempt, pod_name=seen.pod_name)


def _after(task: SeenTask, status: AgentTaskStatus, seen: Observation, end: AttemptEnd, now: float) -> AgentTaskStatus:
    """The same status with what the ended attempt leaves: counters, steps, usage, the time that it ran."""
    old, pod = task.status, seen.pod
    if pod is None and (old.attempt != seen.attempt or seen.never_made):
        return status  # cancelled before there was a pod
    # Of an attempt that was taken away, the last that it told while it ran.
    report = (end.outcome.report if end.outcome is not None else None) or seen.live
    steps = progress.steps_of(task.spec.steps, report, pod, ended=True, now=now) if task.spec is not None else ()
    return msgspec.structs.replace(
        status,
        ended_attempts=seen.attempt,
        device=end.device or fallback.settled(task, seen),
        failures=old.failures + (end.failure is not None and end.failure is not Failure.INFRASTRUCTURE),
        infrastructure_restarts=old.infrastructure_restarts + (end.failure is Failure.INFRASTRUCTURE),
        active_seconds=old.active_seconds + deadlines.ran_seconds(task, pod, now),
        steps=steps,
        progress=progress.progress_of(steps),
        usage=progress.add_usage(old.usage, progress.usage_of(report)),
    )


class _Draft:
    """A status in the making: its conditions first, the rest from them."""

    def __init__(self, task: SeenTask, now: float) -> None:
        self._task, self._now = task, now
        self._conditions: tuple[Condition, ...] = task.status.conditions

    def has(self, kind: ConditionType) -> bool:
        """Whether the condition is there at all."""
        return any(condition.type == kind for condition in self._conditions)

    def set(self, kind: ConditionType, value: ConditionStatus, reason: Reason, message: str = "", *, since: float | None = None) -> None:
        """Set one condition; `since` is when it came to be so, where that is known better than by now."""
        self._conditions = with_condition(
            self._conditions,
            kind,
            value,
            reason,
            shorten(message or reason.describe(), MAX_MESSAGE),
            generation=self._task.metadata.generation,
            now=self._now if since is None else min(since, self._now),
        )

    def settle(self, kind: ConditionType, reason: Reason) -> None:
        """Set a condition to False that is True."""
        if any(condition.type == kind and condition.status == "True" for condition in self._conditions):
            self.set(kind, "False", reason)

    def status(self, seen: Observation, reason: Reason, message: str | None, *, live: bool = True) -> AgentTaskStatus:
        """The whole status, without what only a report tells; `live` is False where the attempt has no pod."""
        old, pod = self._task.status, seen.pod
        attempt, pod_name = (old.attempt, old.pod_name) if pod is None else (pod.attempt, pod.name)
        if pod is None and seen.never_made and attempt == seen.attempt:
            attempt, pod_name = old.ended_attempts, None  # off record: a controller after us would take it for lost
        started = pod.started if pod is not None else None
        return AgentTaskStatus(
            observed_generation=self._task.metadata.generation,
            phase=phase_of(self._conditions, live=live and bool(pod_name)),
            reason=reason,
            message=shorten(message, MAX_MESSAGE) if message else None,
            conditions=self._conditions,
            attempt=attempt,
            ended_attempts=old.ended_attempts,
            failures=old.failures,
            infrastructure_restarts=old.infrastructure_restarts,
            active_seconds=old.active_seconds,
            next_attempt_time=old.next_attempt_time if not terminal(self._conditions) else None,
            pod_name=pod_name,
            node_name=(pod.node if pod is not None else None) or old.node_name,
            device=fallback.remembered(pod.device if pod is not None else None, old.device),
            steps=old.steps,
            progress=old.progress,
            usage=old.usage,
            models=shorten(seen.models, MAX_MODELS) or None,
            trace_id=seen.trace_id or old.trace_id,
            start_time=old.start_time or (moment.render(started) if started is not None else None),
        )
