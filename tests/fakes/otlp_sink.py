"""An OTLP/HTTP collector in a thread: keeps every span it is sent, or misbehaves on request."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


class SeenSpan(Struct, frozen=True, kw_only=True):
    """One span as it came over the wire."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool
    message: str


class OtlpSink:
    """`with OtlpSink() as sink:` listens on a free port of `host`, for pods the node's; `status` and `delay` make it a bad collector."""

    def __init__(self, *, status: int = 200, delay: float = 0.0, host: str = "127.0.0.1") -> None:
        self._host = host
        self.status = status
        self.delay = delay
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.spans: list[SeenSpan] = []
        self._came = threading.Condition()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink._closing.wait(sink.delay)
                sink._take(self.path, dict(self.headers), body)
                self.send_response(sink.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((self._host, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{self._host}:{self._server.server_port}"

    def wait_for(self, count: int, *, seconds: float = 60.0) -> list[SeenSpan]:
        """The spans, when at least `count` have come."""
        deadline = time.monotonic() + seconds
        with self._came:
            while len(self.spans) < count:
                left = deadline - time.monotonic()
                if left <= 0 or not self._came.wait(left):
                    raise AssertionError(
                        f"{count} spans expected within {seconds} s, {len(self.spans)} came: {[s.name for s in self.spans]}"
                    )
            return list(self.spans)

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        with self._came:
            self.requests += 1
            self.headers.append(headers)
            self.bodies.append(body)
            if self.status == 200:
                assert path == "/v1/traces", path
                self.spans.extend(_decode(body))
            self._came.notify_all()


def _decode(body: bytes) -> list[SeenSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        SeenSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes={pair.key: _value(pair.value) for pair in span.attributes},
            resource={pair.key: _value(pair.value) for pair in group.resource.attributes},
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            message=span.status.message,
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, which) if which else None
