"""A number of seconds that may come from a template: `timeoutSeconds: 300`, or `"{{ item.timeout }}"` once rendered."""

from typing import Final

from agenttask.api.errors import StepFailed
from agenttask.domain.nearest import quoted

MAX_SECONDS: Final = 604800
"""A week; the bound of every `...Seconds` field."""


def as_seconds(value: int | str, *, field: str) -> int:
    """The whole number that a rendered field holds.

    Raises:
        StepFailed: it is not a whole number from 1 to 604800.
    """
    text = str(value).strip()
    whole = not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) <= len(str(MAX_SECONDS))
    if not whole or not 1 <= int(text) <= MAX_SECONDS:
        raise StepFailed(f"{field}: {quoted(value)} is no whole number of seconds from 1 to {MAX_SECONDS}")
    return int(text)
