"""Values of secrets are covered in what a command says on standard error: that reaches logs and status.

A net, not a wall: a command that has a secret can print it in another form. Standard output is the step's own text and
stays as it is.
"""

from collections.abc import Iterable

_SHORTEST = 4
"""Shorter values are parts of ordinary words; covering them would spoil every message."""


class Mask:
    """Covers the given values."""

    def __init__(self, values: Iterable[str]) -> None:
        stripped = {value.strip() for value in values}
        self._values = sorted((value for value in stripped if len(value) >= _SHORTEST), key=len, reverse=True)

    def cover(self, text: str) -> str:
        """`text` with `***` in place of each value."""
        for value in self._values:
            text = text.replace(value, "***")
        return text
