"""What follows the end of an attempt: the task's end, another attempt, or suspension.

A task has one live attempt at most. `status.endedAttempts` counts those that are over, so the current one is the next;
`status.podName` with `status.attempt` tells whether its pod was ever on record.
"""

import msgspec
from msgspec import Struct

from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec, DeviceStatus, TriedClass
from agenttask.domain import deadlines, fallback, outcome, retry
from agenttask.domain.lifecycle import AttemptEnd
from agenttask.domain.observation import Observation, SeenTask
from agenttask.domain.outcome import Outcome
from agenttask.domain.retry import Failure


class Finish(Struct, frozen=True, kw_only=True):
    """The task ends."""

    end: AttemptEnd


class Again(Struct, frozen=True, kw_only=True):
    """Another attempt follows, not before `at` (Unix seconds)."""

    end: AttemptEnd
    at: float


class Elsewhere(Struct, frozen=True, kw_only=True):
    """The attempt's device failed: another one follows at once on another device class, and no limit counts it."""

    end: AttemptEnd


class Pause(Struct, frozen=True, kw_only=True):
    """The attempt was stopped by `spec.suspend`."""

    end: AttemptEnd


Following = Finish | Again | Elsewhere | Pause


def current(task: SeenTask) -> int:
    """The number of the attempt that is next or under way."""
    return task.status.ended_attempts + 1


def on_record(task: SeenTask) -> bool:
    """Whether status says that the current attempt has a pod."""
    return bool(task.status.pod_name) and task.status.attempt == current(task)


def cancelled(ended: Outcome | None) -> AttemptEnd:
    """The end of a cancelled task; `ended` is that of its pod, if it had one."""
    return AttemptEnd(reason=Reason.CANCELLED_BY_USER, message=Reason.CANCELLED_BY_USER.describe(), outcome=ended)


def after(task: SeenTask, spec: AgentTaskSpec, seen: Observation, ended: Outcome, now: float, *, known: bool) -> Following:
    """What follows; `known` is False where nobody can say how far the attempt came."""
    if ended.reason is Reason.SUCCEEDED:
        return Finish(end=AttemptEnd(reason=Reason.SUCCEEDED, message=ended.message, outcome=ended))
    if spec.cancel:
        return Finish(end=cancelled(ended))
    failure = retry.FAILURES[ended.reason]
    if spec.execution.at_most_once and not known:
        note = "its fate is unknown and execution.atMostOnce is set, so it is not run again"
        message = f"{ended.message}; {note}" if ended.message else note
        return Finish(end=AttemptEnd(reason=Reason.LOST, message=message, outcome=ended, failure=failure))
    if spec.suspend and ended.reason is Reason.LOST:
        return Pause(end=AttemptEnd(reason=Reason.SUSPENDED, message="", outcome=ended))
    device = fallback.failed(task, seen, ended)
    end = AttemptEnd(reason=ended.reason, message=ended.message, outcome=ended, failure=failure, device=device)
    falls = device is not None and seen.next_class is not None and not seen.next_class.anew
    limit = retry.limit_of(spec, failure)
    count = 1 + (task.status.infrastructure_restarts if failure is Failure.INFRASTRUCTURE else task.status.failures)
    if count > limit and not falls:
        return Finish(end=_exhausted(end, failure, count, limit))
    ran = deadlines.ran_seconds(task, seen.pod, now)
    if task.status.active_seconds + ran >= spec.active_deadline_seconds:
        message = f"{outcome.too_long(spec.active_deadline_seconds)}; the last attempt: {ended.reason}: {ended.message}"
        return Finish(end=AttemptEnd(reason=Reason.DEADLINE_EXCEEDED, message=message, outcome=ended, failure=failure))
    if falls:
        return Elsewhere(end=moved(seen, device, ended))
    wait = retry.pause(spec.retry.backoff, count, uid=task.uid, attempt=seen.attempt)
    told = f"attempt {seen.attempt} ended as {ended.reason}: {ended.message}; the next one follows in {wait:.0f} s"
    return Again(end=msgspec.structs.replace(end, message=told), at=now + wait)


def moved(seen: Observation, device: DeviceStatus | None, ended: Outcome | None = None) -> AttemptEnd:
    """The end of an attempt that gave its device class up."""
    left = device.tried[-1] if device is not None and device.tried else TriedClass()
    message = f"attempt {seen.attempt} gave class {left.class_} up: {left.verdict}; the next one gets another"
    return AttemptEnd(reason=Reason.FALLING_BACK, message=message, outcome=ended, device=device)


def _exhausted(end: AttemptEnd, failure: Failure, count: int, limit: int) -> AttemptEnd:
    """A task that may try once ends with the failure itself, one that tried more often says so."""
    if failure is Failure.PERMANENT or limit == 0:
        return end
    field = "maxInfrastructureRestarts" if failure is Failure.INFRASTRUCTURE else "limit"
    message = f"{count} attempts ended badly, and retry.{field} is {limit}; the last: {end.reason}: {end.message}"
    return AttemptEnd(reason=retry.exhausted(failure), message=message, outcome=end.outcome, failure=failure)
