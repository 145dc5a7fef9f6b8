"""The keyed work queue between events and reconciling drivers, with the semantics of client-go's `workqueue`.

A key stands in it once, however often it is added; it is with one driver at a time; added while a driver has it, it
comes again after `done` (client-go util/workqueue: `queue.go` dirty and processing sets, `delaying_queue.go` earliest
time wins, `default_rate_limiters.go` per-key exponential failures). Keys leave in the order in which they fell due, so
a key that is added all the time starves nobody.
"""

import asyncio
import heapq
import itertools
import random as randomness
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Generic, TypeVar

from agenttask.controller.backoff import Backoff

K = TypeVar("K", bound=Hashable)
RETRIES = Backoff(initial=0.05, maximum=30.0)


class QueueClosed(Exception):
    """`get` after `close`: the driver ends."""


class WorkQueue(Generic[K]):
    """Keys that wait for their time, and which of them a driver has; `clock` and `random` are for tests.

    One that is not `taking` yet is a standby's: nobody takes its keys out, so none may pile up.
    """

    def __init__(
        self,
        *,
        backoff: Backoff = RETRIES,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] = randomness.random,
        taking: bool = True,
    ) -> None:
        self._backoff = backoff
        self._clock = clock if clock is not None else asyncio.get_running_loop().time
        self._random = random
        self._due: dict[K, tuple[float, int]] = {}
        """When each waiting key falls due, and the number that orders equal times."""
        self._heap: list[tuple[float, int, K]] = []
        """The same for keys that no driver has, in order; entries that `_due` no longer confirms are skipped."""
        self._active: set[K] = set()
        self._failures: dict[K, int] = {}
        self._numbers = itertools.count()
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._taking = taking

    def open(self) -> None:
        """Take keys in from now on."""
        self._taking = True

    def __len__(self) -> int:
        """Keys that wait, due or not; those that drivers have are not counted."""
        return len(self._due)

    def add(self, key: K, after: float = 0.0) -> None:
        """Queue a key, due in `after` seconds; of several adds the earliest time wins. Ignored before `open` and once closed."""
        due = self._clock() + max(after, 0.0)
        waiting = self._due.get(key)
        if self._closed or not self._taking or (waiting is not None and waiting[0] <= due):
            return
        self._due[key] = (due, next(self._numbers))
        if key not in self._active:
            self._push(key)

    async def get(self) -> K:
        """The next due key, which is the caller's until `done`.

        Raises:
            QueueClosed: the queue is closed.
        """
        while not self._closed:
            for key in self.take():
                return key
            await self._sleep()
        raise QueueClosed

    async def __aiter__(self) -> AsyncIterator[K]:
        """Due keys until the queue is closed."""
        while not self._closed:
            try:
                yield await self.get()
            except QueueClosed:
                return

    def take(self) -> tuple[K] | tuple[()]:
        """The next key if one is due now, without waiting."""
        while self._heap and not self._closed:
            due, number, key = self._heap[0]
            stale = key in self._active or self._due.get(key) != (due, number)
            if not stale and due > self._clock():
                break
            heapq.heappop(self._heap)
            if not stale:
                del self._due[key]
                self._active.add(key)
                self._alarm()
                return (key,)
        return ()

    def done(self, key: K) -> None:
        """The driver has finished with a key that `get` gave; if it was added meanwhile, it waits again.

        Raises:
            KeyError: no driver has this key.
        """
        self._active.remove(key)
        if key in self._due:
            self._push(key)

    def retry(self, key: K) -> float:
        """Queue a key that failed, later with each failure in a row; the seconds until then."""
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(self._failures[key], self._random)
        self.add(key, after=delay)
        return delay

    def forget(self, key: K) -> None:
        """A key succeeded: its next failure is a first one."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """End every `get`, now and later. Nothing is lost: all keys are found again by listing."""
        self._closed = True
        self._due.clear()
        self._heap.clear()
        self._alarm()
        while self._sleepers:
            self._wake()

    def _push(self, key: K) -> None:
        if len(self._heap) > 2 * len(self._due) + 64:
            # Far entries overtaken by earlier ones would pile up: a deadline hours away, re-added every pass.
            self._heap = [(due, number, each) for each, (due, number) in self._due.items() if each not in self._active]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (*self._due[key], key))
        self._alarm()

    def _alarm(self) -> None:
        """Wake a sleeper when the first key falls due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap and self._sleepers:
            wait = self._heap[0][0] - self._clock()
            if wait <= 0:
                self._wake()
            else:
                self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    def _wake(self) -> None:
        while self._sleepers:
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)
                return

    async def _sleep(self) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        self._alarm()
        try:
            await sleeper
        except asyncio.CancelledError:
            if sleeper.done() and not sleeper.cancelled():
                self._alarm()  # it was woken for a key that somebody else must take now
            raise
