"""Ids of traces and spans, derived from the task's uid, and the W3C `traceparent` text that carries them.

Every program can compute the id of a span that another program exports, or exported before a restart: the pod knows
its parent before that span exists, and a restarted controller sends the same spans again instead of new ones.
Standard library and msgspec only: the controller shows `status.traceID` without an SDK.
"""

import hashlib
import re

from msgspec import Struct

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
_TRACEPARENT = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?")
_SAMPLED = 0x01


class SpanRef(Struct, frozen=True):
    """A span as others refer to it: ids in lowercase hexadecimal, and whether its trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def traceparent(self) -> str:
        """The W3C header value, also the value of the TRACEPARENT variable."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def trace_id(uid: str) -> str:
    """The trace of the task with this uid; one for all its attempts."""
    return _valid(hashlib.sha256(f"trace{uid}".encode()).digest()[:TRACE_ID_BYTES]).hex()


def span_id(uid: str, attempt: int, name: str) -> str:
    """The span called `name` of one attempt; attempt 0 is the task itself."""
    return _valid(hashlib.sha256(f"span/{uid}/{attempt}/{name}".encode()).digest()[:SPAN_ID_BYTES]).hex()


def span_ref(uid: str, attempt: int, name: str, *, sampled: bool = True) -> SpanRef:
    """Trace and span of one attempt's span called `name`."""
    return SpanRef(trace_id(uid), span_id(uid, attempt, name), sampled)


def parse_traceparent(text: str | None) -> SpanRef | None:
    """The span that a `traceparent` names; None where it is absent or malformed, as the W3C text asks for."""
    found = _TRACEPARENT.fullmatch(text.strip()) if text else None
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    return SpanRef(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))


def _valid(digest: bytes) -> bytes:
    """The digest, or 1 where it is all zero, which W3C defines as no id."""
    return digest if any(digest) else (1).to_bytes(len(digest), "big")
