"""A finished span as data: what the adapters of controller and runner make and tests compare, free of any SDK."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from agenttask.telemetry.ids import SpanRef

AttributeValue = str | int | tuple[str, ...]


class SpanKind(StrEnum):
    """The part that a span plays, in OpenTelemetry's words."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"


class FinishedSpan(Struct, frozen=True, kw_only=True):
    """One span with its explicit times (Unix nanoseconds); `error` is a typed reason, None where it went well."""

    name: str
    ref: SpanRef
    parent: SpanRef | None = None
    kind: SpanKind = SpanKind.INTERNAL
    start: int
    end: int
    attributes: Mapping[str, AttributeValue] = {}
    error: str | None = None


class SpanSink(Protocol):
    """Where finished spans go."""

    def emit(self, spans: Iterable[FinishedSpan]) -> None:
        """Hand over; never waits, never raises for the collector's sake."""
        ...

    def sampled(self, trace_id: str) -> bool:
        """Whether a trace with this id that starts here is recorded."""
        ...
