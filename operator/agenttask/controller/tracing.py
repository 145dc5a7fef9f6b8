"""The controller's part of a task's trace: root, queue and pod, computed from what the API server keeps.

They are sent once, after the status write that ends the task. Ids come from the uid and times from the API, so that
sending them again after a restart gives the same spans, not new ones. API times are whole seconds, cut down: the
runner's report, in milliseconds, says when the pod really ended.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from agenttask.api.constants import CONTAINER, ENV_TRACEPARENT
from agenttask.api.reasons import Phase, Reason
from agenttask.api.report import Report
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.observer import NoObserver, TaskObserver
from agenttask.domain import attempts
from agenttask.domain.moment import GRAIN, parse
from agenttask.domain.observation import SeenPod, SeenTask
from agenttask.domain.outcome import report_of
from agenttask.telemetry import ids, names
from agenttask.telemetry.environment import RESOURCE_ATTRIBUTES, encode_resource, forwarded, with_endpoint
from agenttask.telemetry.ids import SpanRef
from agenttask.telemetry.names import Attribute, PipelineResult
from agenttask.telemetry.setup import configure
from agenttask.telemetry.span import AttributeValue, FinishedSpan, SpanKind, SpanSink

SERVICE: Final = "agenttask-controller"
_TIMEOUTS = frozenset({Reason.PENDING_DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED})
_NOT_THE_TASKS_FAULT = frozenset(
    {
        Reason.MODEL_UNAVAILABLE,
        Reason.RATE_LIMITED,
        Reason.DEVICE_UNAVAILABLE,
        Reason.IMAGE_ERROR,
        Reason.POD_REJECTED,
        Reason.RUNNER_CRASHED,
        Reason.LOST,
        Reason.INFRASTRUCTURE_LIMIT_EXCEEDED,
    }
)


@asynccontextmanager
async def observed(environ: Mapping[str, str], endpoint: str) -> AsyncIterator[TaskObserver]:
    """The observer that environment and settings (`endpoint`) ask for; what it has to send is sent at the end."""
    found = with_endpoint(environ, endpoint)
    telemetry = configure(found, service=SERVICE, version=version("agenttask"))
    if telemetry is None:
        yield NoObserver()
        return
    try:
        yield Tracing(telemetry, found)
    finally:
        await asyncio.to_thread(telemetry.close)


class Tracing:
    """Sends the spans of ended tasks, and tells pods where theirs belong; `environ` is the controller's own environment."""

    def __init__(self, sink: SpanSink, environ: Mapping[str, str]) -> None:
        self._sink = sink
        self._forwarded = forwarded(environ)

    def trace_id(self, task: SeenTask) -> str | None:
        """What `status.traceID` shows."""
        return ids.trace_id(task.uid)

    def environment_for(self, task: SeenTask, attempt: int, pod_name: str) -> Mapping[str, str]:
        """Variables for the attempt's pod: its parent span, which is not sent yet, and the way to the collector."""
        resource = {Attribute.NAMESPACE: task.namespace, Attribute.POD: pod_name, Attribute.CONTAINER: CONTAINER}
        return {
            **self._forwarded,
            ENV_TRACEPARENT: self._ref(task.uid, attempt, names.POD_ID).traceparent(),
            RESOURCE_ATTRIBUTES: encode_resource({str(name): value for name, value in resource.items()}),
        }

    def attempt_ended(self, task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None) -> None:
        """Send the spans of an attempt after which another one follows."""
        if pod is not None:
            self._sink.emit(attempt_spans(task, pod, status.message, sampled=self._sink.sampled(ids.trace_id(task.uid))))

    def task_finished(self, task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None) -> None:
        """The status that ends the task was written: send its spans."""
        self._sink.emit(task_spans(task, status, pod, sampled=self._sink.sampled(ids.trace_id(task.uid))))

    def _ref(self, uid: str, attempt: int, name: str) -> SpanRef:
        return ids.span_ref(uid, attempt, name, sampled=self._sink.sampled(ids.trace_id(uid)))


def task_spans(task: SeenTask, status: AgentTaskStatus, pod: SeenPod | None, *, sampled: bool = True) -> list[FinishedSpan]:
    """The spans of an ended task and of its last attempt, root first; each lies within its parent."""
    created = parse(task.metadata.creation_timestamp)
    completed = parse(status.completion_time)
    if created is None or completed is None:
        return []
    report = report_of(pod) if pod is not None else None
    pod_end = completed if pod is None else _end(pod, report, completed)
    end = max(created, completed, pod_end)
    error = status.reason if status.phase in (Phase.FAILED, Phase.CANCELLED) else None
    root = FinishedSpan(
        name=names.TASK_SPAN,
        ref=ids.span_ref(task.uid, 0, names.TASK_ID, sampled=sampled),
        kind=SpanKind.SERVER,
        start=_nanoseconds(created),
        end=_nanoseconds(end),
        attributes=_task_attributes(task, status),
        error=error,
    )
    return [root, *_attempt_spans(task, pod, root.ref, end, pod_end, error)]


def attempt_spans(task: SeenTask, pod: SeenPod, error: str | None, *, sampled: bool = True) -> list[FinishedSpan]:
    """The spans of an ended attempt of a task that goes on: queue and pod."""
    end = _end(pod, report_of(pod), pod.deletion or pod.started or pod.created or 0.0)
    root = ids.span_ref(task.uid, 0, names.TASK_ID, sampled=sampled)
    return _attempt_spans(task, pod, root, end, end, error)


def _attempt_spans(task: SeenTask, pod: SeenPod | None, root: SpanRef, end: float, pod_end: float, error: str | None) -> list[FinishedSpan]:
    """From where the task waited for this attempt to where its pod ended."""
    attempt = pod.attempt if pod is not None else attempts.current(task)
    created = parse(task.metadata.creation_timestamp) or end
    waited = max(created, parse(task.status.next_attempt_time) or created) if attempt > 1 else created
    began = _within(created, end, waited, created)
    pod_start = _within(began, end, pod.created if pod is not None else None, end)
    queue = FinishedSpan(
        name=names.QUEUE_SPAN,
        ref=ids.span_ref(task.uid, attempt, names.QUEUE_ID, sampled=root.sampled),
        parent=root,
        start=_nanoseconds(began),
        end=_nanoseconds(pod_start),
        attributes={Attribute.ATTEMPT: attempt},
    )
    if pod is None:
        return [queue]
    return [queue, *_pod_spans(task.uid, pod, report_of(pod), root, pod_start, _within(pod_start, end, pod_end, end), error)]


def _pod_spans(
    uid: str, pod: SeenPod, report: Report | None, root: SpanRef, start: float, end: float, error: str | None
) -> list[FinishedSpan]:
    ref = ids.span_ref(uid, pod.attempt, names.POD_ID, sampled=root.sampled)
    spans = [
        FinishedSpan(
            name=names.POD_SPAN,
            ref=ref,
            parent=root,
            start=_nanoseconds(start),
            end=_nanoseconds(end),
            attributes=_known(
                {Attribute.ATTEMPT: pod.attempt, Attribute.POD: pod.name, Attribute.POD_UID: pod.uid, Attribute.NODE: pod.node}
            ),
            error=error,
        )
    ]
    if pod.started is not None and not (report is not None and report.done):
        # The runner sends this span after its last report: without one it was killed, and its steps hang in the air.
        began = report.started / 1000 if report is not None and report.started else pod.started
        spans.append(
            FinishedSpan(
                name=names.RUN_SPAN,
                ref=ids.span_ref(uid, pod.attempt, names.RUN_ID, sampled=root.sampled),
                parent=ref,
                start=_nanoseconds(_within(start, end, began, start)),
                end=_nanoseconds(end),
                attributes=names.run_attributes(uid, pod.attempt),
                error=error,
            )
        )
    return spans


def _task_attributes(task: SeenTask, status: AgentTaskStatus) -> dict[str, AttributeValue]:
    return _known(
        {
            Attribute.ACTION: "RUN",
            Attribute.RUN_ID: task.uid,
            Attribute.RESULT: _result(status),
            Attribute.NAMESPACE: task.namespace,
            Attribute.TASK_NAME: task.metadata.name,
            Attribute.DEVICE_CLASS: status.device.class_ if status.device is not None else "",
        }
    )


def _result(status: AgentTaskStatus) -> PipelineResult:
    if status.phase is Phase.SUCCEEDED:
        return PipelineResult.SUCCESS
    if status.reason in _TIMEOUTS:
        return PipelineResult.TIMEOUT
    return PipelineResult.ERROR if status.reason in _NOT_THE_TASKS_FAULT else PipelineResult.FAILURE


def _end(pod: SeenPod, report: Report | None, completed: float) -> float:
    """When the container ended: the second that the kubelet tells, and what the report (a stranger's word) says within it."""
    finished = pod.terminated.finished if pod.terminated is not None else None
    if finished is None:
        return completed
    if report is None:
        return finished
    told = (report.started + max((step.started_ms + step.duration_ms for step in report.steps), default=0)) / 1000
    return min(max(finished, told), finished + GRAIN)


def _within(low: float, high: float, value: float | None, default: float) -> float:
    return min(max(low, default if value is None else value), high)


def _known(attributes: Mapping[Attribute, AttributeValue]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value != ""}


def _nanoseconds(seconds: float) -> int:
    """Through milliseconds: a float holds no nanoseconds of this century."""
    return round(seconds * 1000) * 1_000_000
