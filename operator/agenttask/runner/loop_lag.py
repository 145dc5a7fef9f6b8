"""How late the event loop is: a timer that measures by how much it misses its time.

While something blocks the loop for a second, not one timer is late but all that were due in it; those are counted as
well, or a long block would look like one bad moment among many good ones.
"""

import asyncio
import math
from typing import Final

TICK_SECONDS: Final = 0.1
_FIRST_SECONDS: Final = 0.0001
_GROWTH: Final = 1.25
_BUCKETS: Final = 80
"""The last one begins at some 4,500 s."""
_MOST_MISSED: Final = 10_000


class Latencies:
    """A histogram of growing buckets: a quantile is at most a quarter too high."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        """One measurement."""
        self.largest = max(self.largest, seconds)
        place = 0 if seconds <= _FIRST_SECONDS else math.ceil(math.log(seconds / _FIRST_SECONDS, _GROWTH))
        self._counts[min(place, _BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float:
        """The upper end of the bucket below which that share of the measurements is; 0 without any."""
        wanted = share * sum(self._counts)
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(self.largest, _FIRST_SECONDS * _GROWTH**place)
        return 0.0


class LoopLag:
    """Measures the running loop from `start` to `stop`; `whole` is of all that time."""

    def __init__(self, *, tick_seconds: float = TICK_SECONDS) -> None:
        self._tick_seconds = tick_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._recent = Latencies()
        self.whole = Latencies()

    def start(self) -> None:
        """Begin; on the loop."""
        self._plan(asyncio.get_running_loop())

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def recent(self) -> Latencies:
        """Of the time since the last call."""
        found, self._recent = self._recent, Latencies()
        return found

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._tick_seconds
        self._timer = loop.call_at(due, self._tick, loop, due)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        late = max(0.0, loop.time() - due)
        for missed in range(min(_MOST_MISSED, int(late / self._tick_seconds)) + 1):
            self._recent.add(late - missed * self._tick_seconds)
            self.whole.add(late - missed * self._tick_seconds)
        self._plan(loop)
