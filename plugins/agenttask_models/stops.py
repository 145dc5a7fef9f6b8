"""Stop texts: an answer ends before the first of them, so what may be the beginning of one is held back until it is clear."""

from collections.abc import Sequence


class StopTexts:
    """Watches one answer."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.met = False
        """A stop text came: whatever follows is not part of the answer."""

    def add(self, text: str) -> str:
        """What of the answer is certain now."""
        if self.met:
            return ""
        self._held += text
        ends = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.met = True
            return self._release(min(ends))
        return self._release(len(self._held) - self._beginning())

    def end(self) -> str:
        """What was held back; nothing more comes."""
        return "" if self.met else self._release(len(self._held))

    def _release(self, count: int) -> str:
        sure, self._held = self._held[:count], self._held[count:]
        return sure

    def _beginning(self) -> int:
        """Characters at the end that may begin a stop text."""
        return max((length for stop in self._stops for length in range(1, len(stop)) if self._held.endswith(stop[:length])), default=0)
