"""So many requests an attempt may make: a bucket each, so that one that loops does not cost the others their answers."""

from collections.abc import Callable
from typing import Final

PER_SECOND: Final = 2.0
BURST: Final = 20.0
MOST_BUCKETS: Final = 4096
"""Attempts whose task is over ask too, and nobody tells when the last of their pods is gone."""


class Rate:
    """A token bucket for each key."""

    def __init__(self, clock: Callable[[], float], *, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._clock, self._per_second, self._burst = clock, per_second, burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """0 lets the request pass; else in how many seconds one may."""
        now = self._clock()
        if len(self._buckets) >= MOST_BUCKETS:
            whole = self._burst / self._per_second  # who has not asked for so long has a full bucket again
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < whole}
        left, at = self._buckets.get(key, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second)
        passes = left >= 1
        self._buckets[key] = (left - 1 if passes else left, now)
        return 0.0 if passes else (1 - left) / self._per_second

    def forget(self, key: str) -> None:
        """Nobody asks under this key any more."""
        self._buckets.pop(key, None)
