"""An observer that turns a run into spans: run, steps, model calls, under the span that TRACEPARENT names.

Spans are handed over when they end, with both times; a contextvar tells which span the current coroutine is in, so that
requests to models and the processes of a step carry it on. Prompts, answers, commands, files and messages never enter a
span, only names, reasons and counts.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar

import aiohttp
from msgspec import Struct

from agenttask.api.constants import ENV_TRACEPARENT
from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.api.errors import AgentTaskError
from agenttask.api.steps import Step
from agenttask.plugin.llm import Usage
from agenttask.runner.observer import NullObserver, Operation
from agenttask.telemetry import names
from agenttask.telemetry.environment import forwarded
from agenttask.telemetry.ids import SpanRef, parse_traceparent, span_id, trace_id
from agenttask.telemetry.names import Attribute
from agenttask.telemetry.span import AttributeValue, FinishedSpan, SpanKind, SpanSink

MAX_ITEM_SPANS = 100
"""Of one step."""
_OPERATIONS: Mapping[Operation, str] = {"chat": names.CHAT, "embed": names.EMBEDDINGS}


class _Call(Struct, frozen=True, kw_only=True):
    """A model call that has no answer yet; `outer` is the span that it was made in."""

    ref: SpanRef
    outer: SpanRef
    model: ModelDocument
    operation: str
    max_tokens: int | None
    start: int


class Tracing(NullObserver):
    """The spans of one run; `now` is Unix nanoseconds, `environ` the runner's own environment."""

    def __init__(self, sink: SpanSink, environ: Mapping[str, str], now: Callable[[], int]) -> None:
        self._sink = sink
        self._now = now
        self._outer = parse_traceparent(environ.get(ENV_TRACEPARENT))
        self._forwarded = forwarded(environ)
        self._current: ContextVar[SpanRef | None] = ContextVar("current_span", default=None)
        self._uid = ""
        self._attempt = 0
        self._run: SpanRef | None = None
        self._run_start = 0
        self._holder: ContextVar[SpanRef | None] = ContextVar("holder_span", default=None)
        """The step or item that the coroutine runs; model calls hang below it, also where several run at once."""
        self._steps: dict[int, tuple[SpanRef, int]] = {}
        self._items: dict[tuple[int, int], tuple[SpanRef, int]] = {}
        self._counts: dict[int, dict[str, AttributeValue]] = {}
        self._calls: dict[int, _Call] = {}

    def current(self) -> SpanRef | None:
        """The span that the calling coroutine is in."""
        return self._current.get()

    def step_environment(self) -> dict[str, str]:
        """What a process of the current step needs to go on with the trace."""
        span = self.current()
        return {} if span is None else {ENV_TRACEPARENT: span.traceparent(), **self._forwarded}

    def http_trace(self) -> aiohttp.TraceConfig:
        """For the shared HTTP session: every request carries the span it was made in."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._add_header)
        return config

    def run_started(self, document: TaskDocument) -> None:
        """The run's ids, and its start."""
        self._begin(document, self._now())

    def run_ended(
        self,
        document: TaskDocument,
        *,
        seconds: float,
        usage: Usage,  # noqa: ARG002 - tokens stand on the calls; a sum here would count them twice
        error: AgentTaskError | None,
    ) -> None:
        """The run as a span, also where it was refused before it started."""
        run = self._run or self._begin(document, self._now() - _nanoseconds(seconds))
        self._sink.emit(
            [
                FinishedSpan(
                    name=names.RUN_SPAN,
                    ref=run,
                    parent=self._outer,
                    start=self._run_start,
                    end=self._run_start + _nanoseconds(seconds),
                    attributes=names.run_attributes(document.task.uid, document.attempt),
                    error=None if error is None else error.reason,
                )
            ]
        )
        self._run = None
        self._current.set(None)

    def step_started(self, index: int, step: Step) -> None:
        """The step's ids, and its start."""
        ref = self._ref(names.step_id(step.name))
        self._steps[index] = (ref, self._now())
        self._counts[index] = {}
        self._hold(ref)

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:
        """The step as a span, with the number of its items and of the tries that failed before another one."""
        ref, start = self._steps.pop(index)
        counts = self._counts.pop(index)
        self._sink.emit(
            [
                FinishedSpan(
                    name=names.step_span(step.kind),
                    ref=ref,
                    parent=self._run,
                    start=start,
                    end=start + _nanoseconds(seconds),
                    attributes={Attribute.STEP_NAME: step.name, Attribute.STEP_KIND: step.kind, **counts},
                    error=None if error is None else error.reason,
                )
            ]
        )
        self._current.set(self._run)

    def item_started(self, index: int, step: Step, item: int, count: int) -> None:
        """The item's ids and its start; beyond a hundred, items are counted only."""
        self._counts[index][Attribute.STEP_ITEMS] = count
        if item < MAX_ITEM_SPANS:
            ref = self._ref(names.item_id(step.name, item))
            self._items[index, item] = (ref, self._now())
            self._hold(ref)

    def item_ended(self, index: int, step: Step, item: int, count: int, *, seconds: float, error: AgentTaskError | None) -> None:  # noqa: ARG002 - the port's signature
        """The item as a span; its value is content, and no attribute."""
        outer, _ = self._steps[index]
        if (item_span := self._items.pop((index, item), None)) is not None:
            ref, start = item_span
            self._sink.emit(
                [
                    FinishedSpan(
                        name=names.item_span(step.kind),
                        ref=ref,
                        parent=outer,
                        start=start,
                        end=start + _nanoseconds(seconds),
                        attributes={Attribute.STEP_NAME: step.name, Attribute.ITEM_INDEX: item},
                        error=None if error is None else error.reason,
                    )
                ]
            )
        self._hold(outer)

    def try_failed(self, index: int, step: Step, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:  # noqa: ARG002 - the port's signature
        """Counted; the calls of each try are spans of their own."""
        counts = self._counts[index]
        so_far = counts.get(Attribute.STEP_RETRIES, 0)
        counts[Attribute.STEP_RETRIES] = (so_far if isinstance(so_far, int) else 0) + 1

    def model_call_started(self, call: int, step: str, model: ModelDocument, operation: Operation, *, max_tokens: int | None) -> None:
        """The call's ids, and its start."""
        ref = self._ref(names.call_id(call))
        self._calls[call] = _Call(
            ref=ref,
            outer=self._holder.get() or self._ref(names.step_id(step)),
            model=model,
            operation=_OPERATIONS[operation],
            max_tokens=max_tokens,
            start=self._now(),
        )
        self._current.set(ref)

    def model_call_ended(
        self, call: int, *, seconds: float, usage: Usage, finish_reason: str | None, answered_by: str, error: BaseException | None
    ) -> None:
        """The call as a span with its tokens."""
        asked = self._calls.pop(call)
        self._sink.emit(
            [
                FinishedSpan(
                    name=names.call_span(asked.operation, asked.model.model),
                    ref=asked.ref,
                    parent=asked.outer,
                    kind=SpanKind.CLIENT,
                    start=asked.start,
                    end=asked.start + _nanoseconds(seconds),
                    attributes=_call_attributes(asked, usage, finish_reason, answered_by),
                    error=_error_type(error),
                )
            ]
        )
        self._current.set(asked.outer)

    def _begin(self, document: TaskDocument, start: int) -> SpanRef:
        self._uid, self._attempt, self._run_start = document.task.uid, document.attempt, start
        self._run = self._ref(names.RUN_ID)
        self._current.set(self._run)
        return self._run

    def _hold(self, ref: SpanRef) -> None:
        self._holder.set(ref)
        self._current.set(ref)

    def _ref(self, name: str) -> SpanRef:
        ours = trace_id(self._uid)
        trace, sampled = (ours, self._sink.sampled(ours)) if self._outer is None else (self._outer.trace_id, self._outer.sampled)
        return SpanRef(trace, span_id(self._uid, self._attempt, name), sampled)

    async def _add_header(self, _session: object, _context: object, request: aiohttp.TraceRequestStartParams) -> None:
        span = self.current()
        if span is not None:
            request.headers["traceparent"] = span.traceparent()


def _call_attributes(asked: _Call, usage: Usage, finish_reason: str | None, answered_by: str) -> dict[str, AttributeValue]:
    """Only what is known: an endpoint that tells no usage gets no zeros."""
    found: dict[str, AttributeValue] = {
        Attribute.OPERATION: asked.operation,
        Attribute.PROVIDER: asked.model.client,
        Attribute.MODEL: asked.model.name,
        Attribute.REQUEST_MODEL: asked.model.model,
    }
    if asked.max_tokens is not None:
        found[Attribute.MAX_TOKENS] = asked.max_tokens
    if answered_by:
        found[Attribute.RESPONSE_MODEL] = answered_by
    if finish_reason:
        found[Attribute.FINISH_REASONS] = (finish_reason,)
    if usage.input_tokens:
        found[Attribute.INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens:
        found[Attribute.OUTPUT_TOKENS] = usage.output_tokens
    return found


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _error_type(error: BaseException | None) -> str | None:
    """The typed reason, or the class of an error that has none, such as CancelledError."""
    if error is None:
        return None
    return error.reason if isinstance(error, AgentTaskError) else type(error).__name__
