"""Values of secrets are covered in what a command prints, on its way to logs and status.

A net, not a wall: a command that has a secret can print it in another form. The step's own text, what the command wrote to
standard output, stays as it is.
"""

import re
from collections.abc import Iterable

_SHORTEST = 4
"""Shorter values are parts of ordinary words; covering them would spoil every message."""
_SHORTEST_LINE = 8
"""Lines of a value of several lines (a private key) are covered one by one too, where they are no mere marks."""
COVER = "***"


class Mask:
    """Covers the given values."""

    def __init__(self, values: Iterable[str]) -> None:
        found: set[str] = set()
        for value in values:
            whole = value.strip()
            found.update(each for each in (whole,) if len(each) >= _SHORTEST)
            if "\n" in whole:
                found.update(line.strip() for line in whole.splitlines() if len(line.strip()) >= _SHORTEST_LINE)
        self.values = tuple(sorted(found, key=len, reverse=True))
        self.pattern = re.compile("|".join(map(re.escape, self.values))) if found else None

    def cover(self, text: str) -> str:
        """`text` with `***` in place of each value."""
        return text if self.pattern is None else self.pattern.sub(COVER, text)


class MaskedStream:
    """Covers values in a text that comes in pieces: a piece that ends within what may become a value is held back."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown by now."""
        if self._mask.pattern is None:
            return piece
        text = self._held + piece
        shown: list[str] = []
        start = 0
        open_from = self._opening(text, 0)
        for found in self._mask.pattern.finditer(text):
            if found.start() >= open_from:
                break
            shown += (text[start : found.start()], COVER)
            start = found.end()
            if start > open_from:
                open_from = self._opening(text, start)
        self._held = text[open_from:]
        shown.append(text[start:open_from])
        return "".join(shown)

    def rest(self) -> str:
        """What was held back and became no value; the text has ended."""
        held, self._held = self._held, ""
        return self._mask.cover(held)

    def _opening(self, text: str, start: int) -> int:
        """The first place from `start` on where the rest of `text` is the beginning of a longer value."""
        first = len(text)
        for value in self._mask.values:
            at = text.find(value[0], max(start, len(text) - len(value) + 1))
            while 0 <= at < first:
                if value.startswith(text[at:]):
                    first = at
                    break
                at = text.find(value[0], at + 1)
        return first
