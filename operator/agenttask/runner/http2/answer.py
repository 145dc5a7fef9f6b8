"""The answer of one stream as aiohttp's ClientResponse reads it: in place of the protocol and the connection of HTTP/1.1.

What the reader of a response does not take stays in a stream's window (`Stream.credit`): a body of any size costs at most
that window and aiohttp's own buffer.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import ClientPayloadError, SocketTimeoutError

from agenttask.runner.http2 import aiohttp_parts as parts
from agenttask.runner.http2.errors import Http2Error, MalformedAnswer
from agenttask.runner.http2.fields import RawFields, as_headers, reason_of, status_of
from agenttask.runner.http2.stream import Stream

_NO_BODY = frozenset({204, 304})
_MAX_INFORMATIONAL = 16


class Answer:
    """What aiohttp calls the protocol of a response: `read` gives status and fields, and the body flows into a StreamReader."""

    upgraded = False
    writing_paused = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._loop = stream.connection.loop
        self._parameters = parts.ResponseParameters()
        self._heads: deque[parts.Head] = deque()
        self._informational = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._body: parts.Body | None = None
        self._expected: int | None = None
        self._received = 0
        self._held = bytearray()
        self._held_size = 0
        self._ended = False
        self._reading_paused = False
        self._timer: asyncio.TimerHandle | None = None

    # --- asked by aiohttp

    @property
    def connected(self) -> bool:
        """Whether more may come; a StreamReader asks before it waits."""
        return True

    @property
    def transport(self) -> asyncio.Transport | None:
        """The socket that all streams share; for addresses and certificates."""
        return self._stream.connection.transport

    def set_response_params(self, **parameters: Any) -> None:
        """How the session wants its answers: time-outs, buffer, decompression, bounds."""
        self._parameters = parts.ResponseParameters.of(parameters)

    def start_timeout(self) -> None:
        """The request is sent: `sock_read` runs."""
        if not self._stream.over:
            self._restart()

    async def read(self) -> tuple[Any, Any]:
        """The next status with its fields, and the body."""
        while not self._heads:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._heads.popleft()

    def pause_reading(self) -> None:
        """The reader's buffer is full."""
        self._reading_paused = True
        self._stop_timer()  # it measures the peer

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  # aiohttp's signature
        """The reader took some."""
        if self._reading_paused:
            self._reading_paused = False
            if resume_parser and not self._stream.over:
                self._restart()
            self._pump()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """The request's body could not be sent; where the answer is complete, it is valid all the same."""
        if self._ended:
            return
        if exc_cause is not None and exc.__cause__ is None:
            exc.__cause__ = exc_cause
        self._fail(exc)

    # --- told by the stream

    def informational(self, fields: RawFields) -> None:
        """100 lets a body go out that waited for it; others are for whoever looks at each (nobody does)."""
        self._restart()
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            raise MalformedAnswer(f"more than {_MAX_INFORMATIONAL} answers before the answer")
        status, rest = status_of(fields)
        self._push(parts.head(status, reason_of(status), as_headers(rest), rest), parts.no_body())

    def answered(self, fields: RawFields) -> None:
        """Status and fields of the answer."""
        self._restart()
        status, rest = status_of(fields)
        if len(rest) > self._parameters.max_headers:
            raise MalformedAnswer(f"the answer has {len(rest)} fields, at most {self._parameters.max_headers} are taken")
        headers = as_headers(rest)
        message = parts.head(status, reason_of(status), headers, rest)
        if self._parameters.skip_payload or status in _NO_BODY:
            self._stop_timer()
            self._push(message, parts.no_body())
            return
        length = headers.get("Content-Length")
        self._expected = int(length) if length is not None else None  # `h2` has refused all but digits
        try:
            self._body = parts.Body(self, self._parameters, headers.get("Content-Encoding"), self._loop)
        except ClientPayloadError as error:
            raise MalformedAnswer(str(error)) from error
        self._push(message, self._body.reader)

    def data(self, data: bytes, size: int) -> None:
        """A piece of the body, kept while the reader's buffer is full."""
        self._received += len(data)
        if self._body is None:
            self._stream.credit(size)
            return
        self._held += data
        self._held_size += size
        if not self._reading_paused:
            self._restart()
            self._pump()

    def ended(self) -> None:
        """All is there."""
        self._ended = True
        self._stop_timer()
        if self._expected is not None and self._received != self._expected:
            self._fail(MalformedAnswer(f"the answer has {self._received} bytes, its content-length names {self._expected}"))
            return
        self._pump()

    def failed(self, error: Exception) -> None:
        """Nothing more comes."""
        self._fail(error)

    # --- inside

    def _push(self, message: Any, reader: Any) -> None:
        self._heads.append((message, reader))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pump(self) -> None:
        body = self._body
        if body is None or body.ended:
            return
        try:
            while not self._reading_paused and (self._held or body.more):
                data, size = bytes(self._held), self._held_size
                self._held, self._held_size = bytearray(), 0
                body.feed(data)
                self._stream.credit(size)
            if self._held_size and not self._held:  # padding only
                self._stream.credit(self._held_size)
                self._held_size = 0
            if self._ended and not self._held and not body.more:
                body.end()
        except Exception as error:  # noqa: BLE001  # a body that does not decompress fails its reader, as over HTTP/1.1
            self._stream.release()
            self._fail(error if isinstance(error, Http2Error) else ClientPayloadError(f"Response payload is not completed: {error!r}"))

    def _fail(self, error: BaseException) -> None:
        self._stop_timer()
        if self._error is not None or (self._body is not None and self._body.ended):
            return
        self._error = error
        self._held.clear()
        if self._body is not None:
            self._body.fail(error)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _restart(self) -> None:
        self._stop_timer()
        if self._parameters.read_timeout:
            self._timer = self._loop.call_later(self._parameters.read_timeout, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._stream.release()  # the server is told at once; only this stream ends
        self._fail(SocketTimeoutError("Timeout on reading data from socket"))

    def abandon(self) -> None:
        """The response was closed or has been read."""
        self._stop_timer()
        self._held.clear()
        self._body = None
        self._stream.release()


class Lease:
    """What aiohttp calls the connection of a response: closing or releasing it gives the stream back."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._answer: Answer | None = Answer(stream)
        self._callbacks: list[Callable[[], None]] = []

    @property
    def protocol(self) -> Answer | None:
        """Until it is released."""
        return self._answer

    @property
    def transport(self) -> asyncio.Transport | None:
        """The shared socket."""
        return None if self._answer is None else self._answer.transport

    @property
    def closed(self) -> bool:
        """Whether it was given back."""
        return self._answer is None

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Called when it is given back."""
        self._callbacks.append(callback)

    def close(self) -> None:
        """Give it back; a server that still works on the request is told to stop."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        if self._answer is not None:
            self._answer.abandon()
            self._answer = None

    release = close
