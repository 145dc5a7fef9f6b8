"""A bucket that fills evenly: so much a minute, at most a minute's worth at once, first come first served.

Own code: aiolimiter lets small amounts overtake large ones for ever, and takes nothing back, which tokens need, as their
number is an estimate until the answer is there.
"""

import asyncio
import contextlib
from collections.abc import Callable

_SHORTEST_SLEEP = 0.001
"""Rounding may leave a billionth missing; no loop spins for it."""


class Bucket:
    """Full at the beginning."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._rate = per_minute / 60
        self._clock = clock
        self._level = self._capacity
        self._seen = clock()
        self._turn = asyncio.Lock()  # fair: it wakes waiters in the order of their coming
        self._returned = asyncio.Event()

    async def take(self, amount: float) -> float:
        """Wait until there is as much, and take it; more than fits counts as a full bucket. What was taken."""
        amount = min(amount, self._capacity)
        async with self._turn:
            while (missing := amount - self._filled()) > 0:
                self._returned.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(_SHORTEST_SLEEP, missing / self._rate)):
                        await self._returned.wait()
            self._level -= amount
        return amount

    def put_back(self, amount: float) -> None:
        """Return what was not needed; a negative amount was needed on top, and is paid by those who come next.

        The debt is a minute's worth at most: an endpoint that claims to have counted 10^19 tokens stops nobody for ever.
        """
        self._level = max(-self._capacity, min(self._capacity, self._filled() + amount))
        self._returned.set()

    def _filled(self) -> float:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
        self._seen = now
        return self._level
