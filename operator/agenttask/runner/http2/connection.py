"""One HTTP/2 connection as an asyncio protocol: streams share it, one reader serves all, writes of a loop turn leave together.

No stream waits for another: whatever arrives goes to its stream at once (`receiving`), time-outs and cancellation end
streams and not the connection, and only the peer's silence (`liveness`) or its breach of protocol ends all.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import cast

from h2.errors import ErrorCodes
from h2.exceptions import NoAvailableStreamIDError, NoSuchStreamError, ProtocolError, TooManyStreamsError

from agenttask.runner.http2.allowance import FOR_A_STREAM, FOR_DATA, Allowance
from agenttask.runner.http2.errors import ConnectionLost, Http2Error, NotHttp2, PeerBrokeProtocol, StreamRefused
from agenttask.runner.http2.fields import RawFields
from agenttask.runner.http2.framing import Framing
from agenttask.runner.http2.receiving import receive
from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http2.stream import Stream
from agenttask.runner.http2.watch import Watch

_DEFAULT_STREAMS = 100
"""Until the peer says its own limit; the protocol has none."""
_FLUSH_BYTES = 1 << 16


class Http2Connection(asyncio.Protocol):
    """Made by the connector for each dial; `ready` is done when the peer's settings are there, or the connection failed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Http2Settings, changed: Callable[["Http2Connection"], None]) -> None:
        self.settings = settings
        self.loop = loop
        self.streams: dict[int, Stream] = {}
        self.reserved: set[Stream] = set()
        self.blocked: set[Stream] = set()
        self.limit = _DEFAULT_STREAMS
        self.error: Http2Error | None = None
        self.draining = False
        self.writable = True
        self.transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.allowance = Allowance(settings.control_frames, settings.control_frames_per_second, loop.time())
        self.framing = Framing(settings, lambda: self.allowance.spend(loop.time()))
        self.watch = Watch(self)
        self.live = self.watch.live
        self._changed = changed
        self._uncredited = 0
        self._unflushed = 0
        self._flushing = False
        self._cut_off: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, if this is HTTP/2 at all."""
        self.transport = cast("asyncio.Transport", transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is not None and (chosen := tls.selected_alpn_protocol()) != "h2":
            self.abort(NotHttp2(f"the server chose {chosen or 'no protocol'} in place of HTTP/2"))
            return
        self.framing.initiate_connection()
        self.framing.increment_flow_control_window(max(1, self.settings.connection_window - self.framing.inbound_flow_control_window))
        self.flush()
        self.watch.start()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer, to the streams that they are for."""
        if self.error is not None:
            return
        self.live.received(self.loop.time())
        self.flush()  # a GOAWAY makes `h2` drop what it has not handed out yet
        try:
            events = self.framing.receive_data(data)
            receive(self, events)
        except ProtocolError as error:
            self._broken(error)
        except Exception as error:  # noqa: BLE001  # whatever a hostile peer makes a parser raise ends this connection only
            self._broken(error)
        else:
            self.flush()

    def _broken(self, error: Exception) -> None:
        self._say_goodbye()  # `h2` has a GOAWAY with the reason ready
        self._end(PeerBrokeProtocol(f"the server does not keep to HTTP/2: {type(error).__name__}: {str(error)[:200]}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._end(ConnectionLost("the server closed the connection" if exc is None else f"the connection was lost: {exc}"))
        if self._cut_off is not None:
            self._cut_off.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        self._changed(self)

    def pause_writing(self) -> None:
        """The socket's buffer is full: uploads wait."""
        self.writable = False

    def resume_writing(self) -> None:
        """It is not any more."""
        self.writable = True
        self.wake_blocked()

    # --- for the pool

    @property
    def usable(self) -> bool:
        """Whether new streams may go here at all."""
        return self.error is None and not self.draining and not self.live.suspect

    def free(self, most: int) -> int:
        """Streams that may still be reserved, of at most so many."""
        return min(most, self.limit) - len(self.streams) - len(self.reserved) if self.usable else 0

    @property
    def busy(self) -> bool:
        """Whether it serves anybody."""
        return bool(self.streams or self.reserved)

    def reserve(self) -> Stream:
        """A slot for one request."""
        stream = Stream(self)
        self.reserved.add(stream)
        return stream

    def drain(self) -> None:
        """No new streams; closed when the last one ends."""
        self.draining = True
        if not self.busy:
            self.close()
        self._changed(self)

    def close(self) -> None:
        """Say goodbye and close; a peer that does not answer the goodbye is cut off."""
        if self.error is None:
            self.framing.close_connection(ErrorCodes.NO_ERROR)
            self._say_goodbye()
        self._end(ConnectionLost("the connection was closed"))

    def abort(self, error: Http2Error) -> None:
        """Leave at once, for a reason that every stream is told."""
        self._end(error)
        if self.transport is not None:
            self.transport.abort()

    def _say_goodbye(self) -> None:
        self.flush()
        if self.transport is not None:
            self.transport.close()
            self._cut_off = self.loop.call_later(self.settings.close_seconds, self.transport.abort)

    def _end(self, error: Http2Error) -> None:
        if self.error is not None:
            return
        self.error = error
        self.watch.stop()
        if not self.ready.done():
            self.ready.set_result(None)
        for stream in [*self.streams.values(), *self.reserved]:
            stream.lost(error)
        self._changed(self)

    # --- for streams

    def open(self, stream: Stream, fields: RawFields, *, end: bool) -> None:
        """Make a reserved slot a stream."""
        self.reserved.discard(stream)
        if self.error is not None or self.draining:
            raise StreamRefused("the connection ended before the request was sent")
        try:
            stream.id = self.framing.get_next_available_stream_id()
            self.framing.send_headers(stream.id, fields, end_stream=end)
        except (TooManyStreamsError, NoAvailableStreamIDError) as error:
            stream.id = 0
            if isinstance(error, NoAvailableStreamIDError):
                self.drain()
            raise StreamRefused(f"the connection takes no more streams: {error}") from error
        stream.sent = self.loop.time()
        self.streams[stream.id] = stream
        self.allowance.refund(FOR_A_STREAM)
        self.flush_soon()

    def room(self, stream: Stream) -> int:
        """Bytes of a body that may go out now."""
        if not self.writable:
            return 0
        return min(self.framing.local_flow_control_window(stream.id), self.framing.max_outbound_frame_size)

    def send(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """One DATA frame; `end` where it is the last."""
        self.framing.send_data(stream.id, data, end_stream=end)
        self.allowance.refund(FOR_DATA)
        self._unflushed += len(data)
        if self._unflushed >= _FLUSH_BYTES:  # so that the socket can say that it is full before a whole body is here
            self.flush()
        else:
            self.flush_soon()

    def end(self, stream: Stream) -> None:
        """The request is complete."""
        self.framing.end_stream(stream.id)
        self.flush_soon()

    def credit(self, stream: Stream, size: int) -> None:
        """More of this stream may come."""
        if self.error is None and stream.id in self.streams:
            with contextlib.suppress(NoSuchStreamError):  # `h2` has seen its end already, we are about to
                self.framing.increment_flow_control_window(size, stream.id)
            self.flush_soon()

    def credit_connection(self, size: int) -> None:
        """Given back as bytes arrive: what waits for a slow reader is bounded by its stream's window and holds up no other."""
        self._uncredited += size
        if self._uncredited >= self.settings.connection_window // 4:
            self.framing.increment_flow_control_window(self._uncredited)
            self._uncredited = 0

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """Tell the server to stop; a request given up in silence is a reason to doubt the peer."""
        if self.error is not None or stream.id not in self.streams:
            return
        with contextlib.suppress(NoSuchStreamError):  # as above
            self.framing.reset_stream(stream.id, code)
        if not stream.answered and self.live.given_up(stream.sent, self.loop.time()):
            self.watch.ping()
        self.flush_soon()

    def forget(self, stream: Stream) -> None:
        """The slot is free."""
        self.reserved.discard(stream)
        self.streams.pop(stream.id, None)
        if not self.busy:
            self.live.idle(self.loop.time())
            if self.draining and self.error is None:
                self.close()
        self._changed(self)

    def ping(self) -> None:
        """Ask for a sign of life; `h2` takes the answer."""
        self.framing.ping(b"alive?\r\n")
        self.flush_soon()

    def wake_blocked(self) -> None:
        """Uploads may go on."""
        for stream in list(self.blocked):
            stream.wake()

    def capacity_changed(self) -> None:
        """The peer allows more or fewer streams."""
        self._changed(self)

    # --- writing: once a loop turn for all streams

    def flush(self) -> None:
        """Hand all frames to the socket."""
        self._unflushed = 0
        data = self.framing.data_to_send()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def flush_soon(self) -> None:
        """Together with what else this turn of the loop brings."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()
