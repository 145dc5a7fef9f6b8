"""How long a call takes, without the time that it waits for its turn.

The limits stand inside of the retries, and a call that waits for its own rate limit is neither late nor a failure: its
total time must stand still meanwhile. The running watch of a call is found through a context variable, as there is no
other way from the inner client to the outer that does not go through the client's protocol.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Watch:
    """The time of one call."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._scope: asyncio.Timeout | None = None

    def seconds(self) -> float:
        """How long it has run."""
        return self._clock() - self._start

    @contextmanager
    def stopping(self, scope: asyncio.Timeout) -> Iterator[None]:
        """A pause within the block moves this time-out too."""
        self._scope = scope
        try:
            yield
        finally:
            self._scope = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It stands still within the block."""
        began = self._clock()
        scope, ends = self._scope, None
        if scope is not None and (ends := scope.when()) is not None:
            scope.reschedule(None)
        try:
            yield
        finally:
            waited = self._clock() - began
            self._start += waited
            if scope is not None and ends is not None and not scope.expired():
                scope.reschedule(ends + waited)


class Stopwatch:
    """The watch of the call that the current coroutine makes, if one runs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: ContextVar[Watch | None] = ContextVar("call_watch", default=None)

    @contextmanager
    def running(self, watch: Watch | None = None) -> Iterator[Watch]:
        """Start one, or go on with one."""
        found = watch or Watch(self._clock)
        token = self._running.set(found)
        try:
            yield found
        finally:
            self._running.reset(token)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the running one within the block."""
        watch = self._running.get()
        if watch is None:
            yield
            return
        with watch.paused():
            yield
