"""The export of spans: OpenTelemetry's SDK with ids of our choice, a bounded queue, and manners.

The provider is our own, not the global one. Telemetry never hurts: a collector that is gone, slow or silent costs a
warning a minute, spans that do not fit the queue are dropped, and the end of the process waits for three seconds.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_SCHEDULE_DELAY
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

from agenttask.telemetry.ids import SpanRef
from agenttask.telemetry.names import TASK_SPAN, Attribute
from agenttask.telemetry.quiet import Quiet
from agenttask.telemetry.span import FinishedSpan, SpanKind

FLUSH_SECONDS = 3.0
SCHEDULE_MILLISECONDS = 1000
"""How long spans gather; the SDK's own 5 s are more than most tasks last, and what a killed process loses."""
SCOPE = "agenttask"
_KINDS = {SpanKind.INTERNAL: trace.SpanKind.INTERNAL, SpanKind.SERVER: trace.SpanKind.SERVER, SpanKind.CLIENT: trace.SpanKind.CLIENT}


class GivenIds(IdGenerator):
    """Gives the ids that the current context asks for, random ones elsewhere."""

    def __init__(self) -> None:
        self._wanted: ContextVar[SpanRef | None] = ContextVar("wanted_ids", default=None)
        self._random = RandomIdGenerator()

    def want(self, ref: SpanRef | None) -> None:
        """What the next spans of this context get; None is random again."""
        self._wanted.set(ref)

    def generate_span_id(self) -> int:
        """The wanted span id, or a random one."""
        wanted = self._wanted.get()
        return self._random.generate_span_id() if wanted is None else int(wanted.span_id, 16)

    def generate_trace_id(self) -> int:
        """The wanted trace id, or a random one."""
        wanted = self._wanted.get()
        return self._random.generate_trace_id() if wanted is None else int(wanted.trace_id, 16)


class Telemetry:
    """The pipeline of one process: a SpanSink that exports by OTLP over HTTP."""

    def __init__(self, *, url: str, resource: Mapping[str, str]) -> None:
        self._quiet = Quiet()
        self._quiet.attach()
        self._ids = GivenIds()
        self._exporter = OTLPSpanExporter(endpoint=url)
        # `Resource.create` lets its argument win over the environment; here the user's value wins.
        given = OTELResourceDetector().detect().attributes
        self._provider = TracerProvider(
            resource=Resource.create({**resource, **given}),
            id_generator=self._ids,
            shutdown_on_exit=False,  # its own way waits for 30 s
        )
        delay = None if OTEL_BSP_SCHEDULE_DELAY in os.environ else SCHEDULE_MILLISECONDS
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, schedule_delay_millis=delay))
        self._tracer = self._provider.get_tracer(SCOPE)

    def emit(self, spans: Iterable[FinishedSpan]) -> None:
        """Put the spans into the queue of the exporting thread."""
        for span in spans:
            self._ids.want(span.ref)
            try:
                self._record(span)
            finally:
                self._ids.want(None)

    def sampled(self, trace_id: str) -> bool:
        """What the sampler (`OTEL_TRACES_SAMPLER`) says of a trace that starts here."""
        return self._provider.sampler.should_sample(Context(), int(trace_id, 16), TASK_SPAN).decision is Decision.RECORD_AND_SAMPLE

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Send what is queued, for `timeout` seconds at most; blocks, so call it off the loop."""
        ending = threading.Thread(target=self._end, name="agenttask-flush", daemon=True)
        ending.start()
        ending.join(timeout)
        if ending.is_alive():
            # Ends a back-off; a request that hangs dies with its daemon thread.
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK's shutdown has no annotations

    def _end(self) -> None:
        self._provider.shutdown()
        self._quiet.detach()

    def _record(self, span: FinishedSpan) -> None:
        recorded = self._tracer.start_span(
            span.name,
            context=_parent_context(span.parent),
            kind=_KINDS[span.kind],
            attributes={str(name): str(value) if isinstance(value, str) else value for name, value in span.attributes.items()},
            start_time=span.start,
        )
        if span.error is not None:
            recorded.set_attribute(str(Attribute.ERROR_TYPE), str(span.error))
            recorded.set_status(trace.StatusCode.ERROR)
        recorded.end(end_time=max(span.start, span.end))


def _parent_context(parent: SpanRef | None) -> Context:
    """A context with this parent only: what else the caller's context has is not ours."""
    if parent is None:
        return Context()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent.sampled else trace.TraceFlags.DEFAULT)
    remote = trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), Context())
