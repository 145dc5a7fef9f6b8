"""The header Retry-After, in both of its forms, as seconds."""

import email.utils
import math

_LONGEST_WAIT_SECONDS = 86400.0


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait; None where the header says nothing sensible. `now` is in Unix seconds, for the form that is a date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS) if math.isfinite(seconds) else None
