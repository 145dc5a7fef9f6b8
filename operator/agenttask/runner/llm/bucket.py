"""A bucket that fills evenly: so much a minute, at most a minute's worth at once, first come first served.

Own code: aiolimiter lets small amounts overtake large ones for ever, and takes nothing back, which tokens need, as their
number is an estimate until the answer is there; nor can its rate change while somebody waits.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable

_SHORTEST_SLEEP = 0.001
"""Rounding may leave a billionth missing; no loop spins for it."""


class Bucket:
    """Full at the beginning; `per_minute` None: no limit, 0: nothing until it is raised."""

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._capacity = self._level = math.inf
        self._rate = 0.0
        self._seen = clock()
        self._turn = asyncio.Lock()  # fair: it wakes waiters in the order of their coming
        self._changed = asyncio.Event()
        self.change(per_minute)

    async def take(self, amount: float) -> float:
        """Wait until there is as much, and take it; more than fits counts as a full bucket. What was taken: nothing without a limit."""
        async with self._turn:
            while (missing := self._wanted(amount) - self._filled()) > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(_SHORTEST_SLEEP, missing / self._rate) if self._rate else None):
                        await self._changed.wait()
            if self._capacity == math.inf:
                return 0.0
            taken = min(amount, self._capacity)
            self._level -= taken
        return taken

    def put_back(self, amount: float) -> None:
        """Return what was not needed; a negative amount was needed on top, and is paid by those who come next.

        The debt is a minute's worth at most: an endpoint that claims to have counted 10^19 tokens stops nobody for ever.
        """
        if self._capacity < math.inf:
            self._level = max(-self._capacity, min(self._capacity, self._filled() + amount))
            self._changed.set()

    def change(self, per_minute: int | None) -> None:
        """From now on, for those who wait too; what is in the bucket stays as far as it fits."""
        level = self._filled()
        self._capacity = math.inf if per_minute is None else float(per_minute)
        self._rate = 0.0 if per_minute is None else per_minute / 60
        self._level = self._capacity if math.inf in (level, self._capacity) else max(-self._capacity, min(self._capacity, level))
        self._changed.set()

    def _wanted(self, amount: float) -> float:
        """Of an empty bucket that never fills, something is wanted all the same."""
        return min(amount, self._capacity) if self._capacity else max(amount, 1.0)

    def _filled(self) -> float:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
        self._seen = now
        return self._level
