"""One request and its answer as a stream of a connection: sent under flow control, received into a sink, ended once."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from h2.errors import ErrorCodes

from agenttask.runner.http2.errors import Http2Error, StreamRefused, StreamReset
from agenttask.runner.http2.fields import RawFields

if TYPE_CHECKING:
    from agenttask.runner.http2.connection import Http2Connection


class Sink(Protocol):
    """Who takes the answer in; called by the connection as frames arrive."""

    def informational(self, fields: RawFields) -> None:
        """An answer before the answer: 100, 103."""
        ...

    def answered(self, fields: RawFields) -> None:
        """Status and fields."""
        ...

    def data(self, data: bytes, size: int) -> None:
        """A piece of the body; `size` bytes of window come back by `Stream.credit`."""
        ...

    def ended(self) -> None:
        """All is there."""
        ...

    def failed(self, error: Exception) -> None:
        """Nothing more will come."""
        ...


class Stream:
    """A slot on a connection from the moment it is reserved; `open` makes it a stream, `release` gives it back."""

    def __init__(self, connection: "Http2Connection") -> None:
        self.connection = connection
        self.id = 0
        """0 until it is opened."""
        self.sink: Sink | None = None
        self.sent = 0.0
        self.answered = False
        self.wrote_all = False
        self.over = False
        """Nothing more comes: answered in full, failed, or given up."""
        self.error: Http2Error | None = None
        self._uncredited = 0
        self._room: asyncio.Future[None] | None = None

    def open(self, fields: RawFields, sink: Sink, *, end: bool) -> None:
        """Send the request's fields; `end` where it has no body.

        Raises:
            StreamRefused: the connection takes no new stream any more; another one will.
        """
        self.sink = sink
        self.connection.open(self, fields, end=end)
        self.wrote_all = end

    async def write(self, data: bytes | bytearray | memoryview, *, last: bool = False) -> None:
        """Send a piece of the body as the peer's windows and the socket allow; the last one takes the end along, if it is not empty.

        Raises:
            Http2Error: the stream failed, or the answer is complete and nobody wants the rest.
        """
        rest = memoryview(data).cast("B") if isinstance(data, memoryview) else memoryview(data)
        while rest and not self.over and not self.wrote_all:
            room = self.room()
            if room <= 0:
                await self._wait_for_room()
                continue
            self.wrote_all = last and len(rest) <= room
            self.connection.send(self, bytes(rest[:room]), end=self.wrote_all)
            rest = rest[room:]
        if self.over:
            raise self.error or StreamReset("the server had answered before the whole request was sent")

    def end(self) -> None:
        """The body is sent."""
        if not self.over and not self.wrote_all:
            self.wrote_all = True
            self.connection.end(self)

    def room(self) -> int:
        """Bytes that can be sent now."""
        return 0 if self.over else self.connection.room(self)

    async def drained(self) -> None:
        """Wait until the socket takes bytes again."""
        while not self.over and not self.connection.writable:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        self.connection.blocked.add(self)
        try:
            await self._room
        finally:
            self._room = None
            self.connection.blocked.discard(self)

    def wake(self) -> None:
        """Windows or the socket may have opened, or all is over."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def credit(self, size: int) -> None:
        """The reader took so many bytes: the server may send as many more. Told in quarters of a window, not byte by byte."""
        self._uncredited += size
        if self._uncredited >= self.connection.settings.stream_window // 4 and not self.over:
            self.connection.credit(self, self._uncredited)
            self._uncredited = 0

    # --- told by the connection

    def complete(self) -> None:
        """The answer is complete; the slot is free once the request is sent too."""
        self.over = True
        if self.wrote_all:
            self.connection.forget(self)
        self.wake()
        if self.sink is not None:
            self.sink.ended()

    def fail(self, error: Http2Error) -> None:
        """No more of this stream."""
        if self.over:
            self.connection.forget(self)
            return
        self.over = True
        self.error = error
        self.connection.forget(self)
        self.wake()
        if self.sink is not None:
            self.sink.failed(error)

    def lost(self, error: Http2Error) -> None:
        """The connection ended: a request that never left was not processed."""
        self.fail(error if self.id else StreamRefused(str(error)))

    # --- told by the reader

    def release(self) -> None:
        """Nobody waits any more; the server is told so where it still works on it."""
        finished = self.over and self.wrote_all
        if self.id and not finished and self.error is None:
            self.connection.reset(self, ErrorCodes.CANCEL)
        self.over = True
        self.sink = None  # no cycle keeps the answer's bytes until the collector comes
        self.connection.forget(self)
        self.wake()
