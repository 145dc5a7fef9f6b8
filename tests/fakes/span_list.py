"""A SpanSink that keeps what it is given."""

from collections.abc import Iterable

from agenttask.telemetry.span import FinishedSpan


class SpanList:
    """Spans in the order in which they were handed over."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.spans: list[FinishedSpan] = []
        self._sampled = sampled

    def emit(self, spans: Iterable[FinishedSpan]) -> None:
        """Keep them."""
        self.spans.extend(spans)

    def sampled(self, trace_id: str) -> bool:
        """What the test asked for."""
        return self._sampled

    def named(self, name: str) -> FinishedSpan:
        """The one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found
