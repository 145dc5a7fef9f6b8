"""Connections by origin: which one a request gets, when another is dialled, and who waits.

A request goes to the first connection with room under the soft cap. Without one, as many are dialled at once as the
waiting need, up to the origin's limit; beyond that connections are filled up to the server's own limit. Who waits is
served in order. Nothing here knows aiohttp.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from msgspec import Struct

from agenttask.runner.http2.connection import Http2Connection
from agenttask.runner.http2.errors import Http2Error
from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http2.stream import Stream

Key = TypeVar("Key", bound=Hashable)
Dial = Callable[[], Awaitable[Http2Connection]]


class OriginLoad(Struct, frozen=True, kw_only=True):
    """What one origin has at the moment."""

    connections: int
    streams: int
    dialling: int
    waiting: int


class _Origin:
    def __init__(self) -> None:
        self.connections: list[Http2Connection] = []
        self.dialling: set[asyncio.Task[None]] = set()
        self.given_up: set[asyncio.Task[None]] = set()
        """Dials that were cancelled and have not ended: no request waits for them."""
        self.waiting: deque[tuple[asyncio.Future[Stream], Dial]] = deque()
        self.proved = False
        """It spoke HTTP/2 before: several dials at once are no waste."""
        self.dial_again = 0.0
        self.dialling_since = 0.0

    def usable(self) -> list[Http2Connection]:
        return [connection for connection in self.connections if connection.usable]

    def pick(self, most: int) -> Http2Connection | None:
        return next((connection for connection in self.connections if connection.free(most) > 0), None)

    def least_busy(self) -> Http2Connection | None:
        free = [connection for connection in self.connections if connection.free(connection.limit) > 0]
        return min(free, key=lambda connection: len(connection.streams) + len(connection.reserved), default=None)

    def stop_dialling_for_nobody(self) -> None:
        """A dial is given up with the last who waits for it; beside other connections it may as well go on."""
        if all(slot.done() for slot, _dial in self.waiting) and not self.usable():
            for task in self.dialling:
                task.cancel()
            self.given_up |= self.dialling
            self.dialling.clear()

    def forget_cancelled(self) -> None:
        while self.waiting and self.waiting[0][0].done():
            self.waiting.popleft()


class Pool(Generic[Key]):
    """`acquire` gives a reserved stream; the stream gives itself back."""

    def __init__(self, settings: Http2Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.dialled = 0
        """Connections that were ever made."""
        self._loop = loop
        self._origins: dict[Key, _Origin] = {}
        self._homes: dict[Http2Connection, Key] = {}
        self._closing: set[Http2Connection] = set()
        self._closed = False

    async def acquire(self, key: Key, dial: Dial, *, dial_seconds: float | None = None) -> Stream:
        """A slot on a connection to this origin; `dial` makes a new one. A dial that all who wait for it have left is given up.

        Raises:
            Http2Error: the origin does not speak HTTP/2, or the pool was closed.
            TimeoutError: there is no connection after so many seconds.
            Exception: what `dial` raised, where no connection is left that could serve.
        """
        if self._closed:
            raise Http2Error("the session is closed")
        origin = self._origins.get(key) or self._origins.setdefault(key, _Origin())
        if not origin.waiting and (free := origin.pick(self.settings.streams_per_connection)) is not None:
            return free.reserve()
        slot: asyncio.Future[Stream] = self._loop.create_future()
        origin.waiting.append((slot, dial))
        self._serve(key, origin)
        timer = self._loop.call_later(dial_seconds, _give_up, origin, slot) if dial_seconds and not slot.done() else None
        try:
            return await slot
        except (asyncio.CancelledError, TimeoutError):
            if not slot.cancelled() and slot.exception() is None:
                slot.result().release()
            origin.stop_dialling_for_nobody()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def waits(self, key: Key) -> bool:
        """Whether a request to this origin would have to wait, for a dial or for a slot."""
        origin = self._origins.get(key)
        return origin is None or origin.pick(self.settings.streams_per_connection) is None

    def load(self) -> dict[Key, OriginLoad]:
        """What each origin has; for logs and metrics."""
        return {
            key: OriginLoad(
                connections=len(origin.connections),
                streams=sum(len(connection.streams) + len(connection.reserved) for connection in origin.connections),
                dialling=len(origin.dialling),
                waiting=len(origin.waiting),
            )
            for key, origin in self._origins.items()
        }

    def changed(self, connection: Http2Connection) -> None:
        """A connection has room, or has ended."""
        home = self._homes.get(connection)
        if home is None:
            return
        origin = self._origins[home]
        if connection.error is not None:
            del self._homes[connection]
            origin.connections.remove(connection)
            self._await_close(connection)
        self._serve(home, origin)
        self._drop_if_empty(home, origin)
        if not connection.busy:  # what the limit of all connections held up may be possible now
            for key, other in list(self._origins.items()):
                if other.waiting and not other.dialling and other is not origin:
                    self._serve(key, other)

    async def close(self) -> None:
        """End all connections, and what waits for them."""
        self._closed = True
        tasks = [task for origin in self._origins.values() for task in origin.dialling | origin.given_up]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for origin in list(self._origins.values()):
            self._fail_waiting(origin, Http2Error("the session was closed"))
            for connection in list(origin.connections):
                connection.close()
        if self._closing:
            await asyncio.wait([connection.closed for connection in self._closing], timeout=2 * self.settings.close_seconds)

    # --- who gets what

    def _serve(self, key: Key, origin: _Origin) -> None:
        origin.forget_cancelled()
        while origin.waiting:
            connection = origin.pick(self.settings.streams_per_connection)
            if connection is None:
                self._dial_for_waiting(key, origin)
                connection = None if self._worth_waiting(origin) else origin.least_busy()
                if connection is None:
                    return
            slot, _dial = origin.waiting.popleft()
            slot.set_result(connection.reserve())
            origin.forget_cancelled()

    def _worth_waiting(self, origin: _Origin) -> bool:
        return bool(origin.dialling) and self._loop.time() - origin.dialling_since < self.settings.patience_seconds

    def _dial_for_waiting(self, key: Key, origin: _Origin) -> None:
        usable = len(origin.usable())
        if self._closed or (usable and self._loop.time() < origin.dial_again):
            return
        each = max(1, min([self.settings.streams_per_connection, *(connection.limit for connection in origin.connections)]))
        wanted = -(-len(origin.waiting) // each) if origin.proved else 1
        while len(origin.dialling) < wanted and usable + len(origin.dialling) < self.settings.connections_per_origin:
            if self._full():
                if not self._close_an_idle_one():
                    return
                continue  # whoever else waits was served by that, perhaps with a dial
            if not origin.dialling:
                origin.dialling_since = self._loop.time()
                self._loop.call_later(self.settings.patience_seconds, self._serve, key, origin)
            task = self._loop.create_task(self._dial(key, origin, origin.waiting[0][1]))
            origin.dialling.add(task)

    def _full(self) -> bool:
        origins = self._origins.values()
        return sum(len(origin.connections) + len(origin.dialling) for origin in origins) >= self.settings.connections

    def _close_an_idle_one(self) -> bool:
        for origin in self._origins.values():
            for connection in origin.connections:
                if not connection.busy:
                    connection.close()
                    return True
        return False

    async def _dial(self, key: Key, origin: _Origin, dial: Dial) -> None:
        failure: Exception | None = None
        given_up = False
        try:
            async with asyncio.timeout(self.settings.connect_seconds):
                connection = await dial()
                await _until_ready(connection)
        except asyncio.CancelledError:
            given_up = True
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            failure = error
        task = asyncio.current_task()
        assert task is not None
        origin.dialling.discard(task)
        origin.given_up.discard(task)
        if given_up:
            pass  # those who have come since have a dial of their own, or get one now
        elif failure is None:
            self.dialled += 1
            origin.proved = True
            origin.connections.append(connection)
            self._homes[connection] = key
            if self._closed:
                connection.close()
        elif origin.usable():
            origin.dial_again = self._loop.time() + self.settings.dial_again_seconds
        elif not origin.dialling:
            self._fail_waiting(origin, failure)
        self._serve(key, origin)
        self._drop_if_empty(key, origin)

    def _drop_if_empty(self, key: Key, origin: _Origin) -> None:
        if not (origin.connections or origin.dialling or origin.given_up or origin.waiting) and self._origins.get(key) is origin:
            del self._origins[key]

    def _fail_waiting(self, origin: _Origin, error: Exception) -> None:
        waiting, origin.waiting = origin.waiting, deque()
        for slot, _dial in waiting:
            if not slot.done():
                slot.set_exception(error)

    def _await_close(self, connection: Http2Connection) -> None:
        if not connection.closed.done():
            self._closing.add(connection)
            connection.closed.add_done_callback(lambda _closed: self._closing.discard(connection))


def _give_up(origin: _Origin, slot: asyncio.Future[Stream]) -> None:
    """Who waits for a dial has waited long enough; who waits for a slot on a connection that is there has other time-outs."""
    if not slot.done() and not origin.usable():
        slot.set_exception(TimeoutError())


async def _until_ready(connection: Http2Connection) -> None:
    """Wait for the server's first words.

    Raises:
        Exception: they were none of HTTP/2.
    """
    try:
        await connection.ready
    except asyncio.CancelledError:
        connection.close()
        raise
    if connection.error is not None:
        raise connection.error
