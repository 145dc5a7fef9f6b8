"""Locks of one task by path: no two steps write the same file, folder or git repository at once.

A path collides with itself, with the folders above it and with all that is below it. Whoever wants several takes them
in one go, when all are free, and whoever has waited longest goes first among those that collide: no deadlock, and
nobody waits for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

Paths = frozenset[Path]


class PathLocks:
    """Who holds and who waits; for one event loop."""

    def __init__(self) -> None:
        self._held: list[Paths] = []
        self._waiting: list[tuple[Paths, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def hold(self, *paths: Path) -> AsyncIterator[None]:
        """Wait until no other step holds one of these paths, a folder above it or something below it."""
        wanted = frozenset(paths)
        await self._take(wanted)
        try:
            yield
        finally:
            self._held.remove(wanted)
            self._wake()

    async def _take(self, wanted: Paths) -> None:
        ticket = (wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        self._wake()
        try:
            await ticket[1]
        except BaseException:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:  # given, and cancelled before it was used
                self._held.remove(wanted)
            self._wake()
            raise

    def _wake(self) -> None:
        """Give to all that collide with nobody who holds or waits longer."""
        before = list(self._held)
        for ticket in list(self._waiting):
            wanted, given = ticket
            if not any(collide(wanted, other) for other in before):
                self._waiting.remove(ticket)
                self._held.append(wanted)
                if not given.done():
                    given.set_result(None)
            before.append(wanted)


def collide(these: Iterable[Path], those: Iterable[Path]) -> bool:
    """Whether a path of one side is, holds or lies in one of the other."""
    return any(this == that or this in that.parents or that in this.parents for this in these for that in those)
