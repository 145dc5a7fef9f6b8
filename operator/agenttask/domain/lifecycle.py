"""The status of a task in each state of its life, complete, from conditions down to the phase.

A status is always built whole from what is seen; what the pod once told (node, device, start) is kept when the pod
is gone.
"""

from typing import Final

import msgspec

from agenttask.api.meta import Condition, ConditionStatus
from agenttask.api.reasons import ConditionType, Reason
from agenttask.api.report import shorten
from agenttask.api.task import AgentTaskStatus
from agenttask.domain import moment, progress
from agenttask.domain.conditions import phase_of, with_condition
from agenttask.domain.observation import Observation, SeenPod, SeenTask, Waits
from agenttask.domain.outcome import Outcome

MAX_MESSAGE: Final = 1024
MAX_MODELS: Final = 16384
"""Sixty-four names of AgentModels fit; what a third party's step calls its model may be any text."""


def waiting(task: SeenTask, seen: Observation, waits: Waits, now: float) -> AgentTaskStatus:
    """Queued without a pod, Starting with one; the reason says what for."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", waits.reason, waits.message)
    return draft.status(seen, waits.reason, waits.message)


def running(task: SeenTask, seen: Observation, pod: SeenPod, now: float) -> AgentTaskStatus:
    """The container runs; how far it is shows only in the report that it leaves."""
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "True", Reason.POD_RUNNING)
    steps = progress.steps_of(task.spec.steps, None, pod, ended=False, now=now) if task.spec is not None else ()
    status = draft.status(seen, Reason.POD_RUNNING, None)
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
    draft.set(ConditionType.FAILED, "True", reason, message)
    status = draft.status(seen, reason, message)
    return msgspec.structs.replace(status, completion_time=moment.render(now))


def finished(task: SeenTask, seen: Observation, outcome: Outcome, now: float) -> AgentTaskStatus:
    """The attempt has ended; without retries so has the task."""
    pod, success = seen.pod, outcome.reason is Reason.SUCCEEDED
    draft = _Draft(task, now)
    draft.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    draft.set(ConditionType.POD_READY, "False", outcome.reason, outcome.message)
    draft.set(ConditionType.COMPLETE if success else ConditionType.FAILED, "True", outcome.reason, outcome.message)
    steps = progress.steps_of(task.spec.steps, outcome.report, pod, ended=True, now=now) if task.spec is not None else ()
    end = pod.terminated.finished if pod is not None and pod.terminated is not None else None
    return msgspec.structs.replace(
        draft.status(seen, outcome.reason, outcome.message),
        steps=steps,
        progress=progress.progress_of(steps, succeeded=success),
        usage=progress.usage_of(outcome.report),
        output=outcome.report.output if success and outcome.report is not None else None,
        completion_time=moment.render(now if end is None else min(end, now)),
    )


class _Draft:
    """A status in the making: its conditions first, the rest from them."""

    def __init__(self, task: SeenTask, now: float) -> None:
        self._task, self._now = task, now
        self._conditions: tuple[Condition, ...] = task.status.conditions

    def has(self, kind: ConditionType) -> bool:
        """Whether the condition is there at all."""
        return any(condition.type == kind for condition in self._conditions)

    def set(self, kind: ConditionType, value: ConditionStatus, reason: Reason, message: str = "") -> None:
        """Set one condition."""
        self._conditions = with_condition(
            self._conditions,
            kind,
            value,
            reason,
            shorten(message or reason.describe(), MAX_MESSAGE),
            generation=self._task.metadata.generation,
            now=self._now,
        )

    def status(self, seen: Observation, reason: Reason, message: str | None) -> AgentTaskStatus:
        """The whole status, without what only a report tells."""
        old, pod = self._task.status, seen.pod
        pod_name = pod.name if pod is not None else old.pod_name
        started = pod.started if pod is not None else None
        return AgentTaskStatus(
            observed_generation=self._task.metadata.generation,
            phase=phase_of(self._conditions, pod_name),
            reason=reason,
            message=shorten(message, MAX_MESSAGE) if message else None,
            conditions=self._conditions,
            attempt=pod.attempt if pod is not None else old.attempt,
            pod_name=pod_name,
            node_name=(pod.node if pod is not None else None) or old.node_name,
            device=(pod.device if pod is not None else None) or old.device,
            models=shorten(seen.models, MAX_MODELS) or None,
            trace_id=seen.trace_id or old.trace_id,
            start_time=moment.render(started) if started is not None else old.start_time,
        )
