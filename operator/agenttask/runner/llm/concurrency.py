"""So many calls at once, first come first served, where how many may change while calls run and wait.

Own code: asyncio's semaphore has the number that it was made with.
"""

import asyncio
from collections import deque


class Concurrency:
    """`limit` None: as many as there are; 0: none until it is raised."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a place, and have it."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        self._grant()
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():  # given in the very moment
                self.release()
            raise

    def release(self) -> None:
        """Give a place back."""
        self._running -= 1
        self._grant()

    def change(self, limit: int | None) -> None:
        """From now on; calls that are under way stay, also where they are more than may be."""
        self._limit = limit
        self._grant()

    def _grant(self) -> None:
        while self._waiting and (self._limit is None or self._running < self._limit):
            ticket = self._waiting.popleft()
            if not ticket.done():
                self._running += 1
                ticket.set_result(None)
