"""Times as the API writes them (RFC 3339) and as we reckon (Unix seconds).

The API server keeps whole seconds in `metav1.Time`: something created 0.9 s ago may read as 1.8 s old. Whoever asks
"has this lasted n seconds" adds `GRAIN` and is never early.
"""

from datetime import UTC, datetime
from typing import Final

GRAIN: Final = 1.0
"""How much older than it is a time of the API server may look, in seconds."""
_EARLIEST: Final = 86400.0 * 366
"""The kubelet writes 1970 for a container that never started."""


def parse(text: str | None) -> float | None:
    """Unix seconds of an RFC 3339 time; None for none, for nonsense, and for the zero time."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
        seconds = (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > _EARLIEST else None


def render(seconds: float) -> str:
    """The time in whole seconds, as `metav1.Time`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def render_exact(seconds: float) -> str:
    """The time with milliseconds, for steps, which are often shorter than a second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
