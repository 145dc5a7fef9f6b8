"""A scripted HTTP/2 server on `h2` and asyncio: it does what a test says, to the frame, and keeps what it saw.

A script is a coroutine that gets each request and answers it, or does not. Raw frames go out by `peer.raw`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

Fields = list[tuple[str, str]]


@dataclass
class Seen:
    """What came, over all connections; `changed` is set anew with each event."""

    connections: int = 0
    closed: int = 0
    peak_streams: int = 0
    requests: int = 0
    resets: list[int] = field(default_factory=list)
    """Error codes of RST_STREAM frames."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self) -> None:
        """Wake whoever waits."""
        self.changed.set()

    async def until(self, true: Callable[["Seen"], bool]) -> None:
        """Wait for what must come."""
        async with asyncio.timeout(30):
            while not true(self):
                self.changed.clear()
                await self.changed.wait()


class Request:
    """One request on one connection; its body arrives while the script runs."""

    def __init__(self, peer: "Peer", stream: int, fields: Fields) -> None:
        self.peer = peer
        self.stream = stream
        self.fields = fields
        self.body = bytearray()
        self.pieces: list[tuple[int, bool]] = []
        """Of its body: the size of each DATA frame, and whether it ended the request."""
        self.complete = asyncio.Event()
        self.reset = asyncio.Event()
        self.window = asyncio.Event()
        self.credit_body = peer.server.credits_bodies
        """Whether the windows of its body are given back as it comes."""

    def __getitem__(self, name: str) -> str:
        return dict(self.fields)[name]

    @property
    def path(self) -> str:
        """`:path`."""
        return self[":path"]

    def fields_out(self, status: int = 200, fields: Fields | None = None, *, end: bool = False) -> None:
        """Send status and fields."""
        self.peer.h2.send_headers(self.stream, [(":status", str(status)), *(fields or [])], end_stream=end)
        self.peer.flush()

    async def data_out(self, data: bytes, *, end: bool = False) -> None:
        """Send a piece of the body under flow control."""
        h2 = self.peer.h2
        while data:
            room = min(h2.local_flow_control_window(self.stream), h2.max_outbound_frame_size)
            if room <= 0:
                self.window.clear()
                await self.window.wait()
                continue
            h2.send_data(self.stream, data[:room])
            data = data[room:]
            self.peer.flush()
            await asyncio.sleep(0)
        if end:
            h2.end_stream(self.stream)
            self.peer.flush()

    async def answer(self, body: bytes = b"ok", *, status: int = 200, fields: Fields | None = None) -> None:
        """Send a whole answer."""
        self.fields_out(status, fields, end=not body)
        if body:
            await self.data_out(body, end=True)

    def refuse(self, code: ErrorCodes = ErrorCodes.REFUSED_STREAM) -> None:
        """Reset the stream."""
        self.peer.h2.reset_stream(self.stream, code)
        self.peer.flush()


Script = Callable[[Request], Awaitable[None]]


async def say_ok(request: Request) -> None:
    """The simplest script."""
    await request.complete.wait()
    await request.answer()


class Peer(asyncio.Protocol):
    """One connection as the server has it."""

    def __init__(self, server: "Http2Server") -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8", validate_outbound_headers=False))
        self.requests: dict[int, Request] = {}
        self.served = 0
        self.frozen = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP and TLS give no other
        self.server.peers.append(self)
        self.server.seen.connections += 1
        self.server.seen.change()
        self.hello = b""
        self.greeted = False
        if self.server.greets:
            self.greet()
        self.server.accepted(self)

    def greet(self) -> None:
        """Send the settings, and take in what came before."""
        self.greeted = True
        self.h2.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 100, **self.server.settings})
        self.h2.decoder.max_allowed_table_size = self.h2.local_settings.header_table_size
        self.h2.initiate_connection()
        self.flush()
        self.data_received(self.hello)

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.flush()
        self.transport.write(data)

    def flush(self) -> None:
        """What `h2` has ready."""
        if not self.frozen and not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())

    def freeze(self) -> None:
        """Read and say nothing more, without closing."""
        self.frozen = True
        self.transport.pause_reading()

    def goaway(self, *, last: int | None = None, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """As a server that is about to close, by raw bytes: its own `h2` goes on serving."""
        number = self.h2.highest_inbound_stream_id if last is None else last
        self.raw(b"\0\0\x08\x07\0\0\0\0\0" + number.to_bytes(4, "big") + int(code).to_bytes(4, "big"))

    def data_received(self, data: bytes) -> None:
        if not self.greeted:
            self.hello += data
            return
        try:
            events = self.h2.receive_data(data)
        except ProtocolError:
            self.transport.abort()
            return
        for event in events:
            self._take(event)
        self.flush()
        self.server.seen.change()

    def _take(self, event: object) -> None:
        seen = self.server.seen
        if isinstance(event, RequestReceived):
            request = Request(self, event.stream_id, [(str(name), str(value)) for name, value in event.headers])
            self.requests[event.stream_id] = request
            self.server.requests.append(request)
            self.served += 1
            seen.requests += 1
            seen.peak_streams = max(seen.peak_streams, self.h2.open_inbound_streams)
            task = asyncio.create_task(self._run(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, DataReceived):
            request = self.requests[event.stream_id]
            request.body += event.data
            request.pieces.append((len(event.data), event.stream_ended is not None))
            if request.credit_body and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.requests[event.stream_id].complete.set()
        elif isinstance(event, StreamReset):
            seen.resets.append(int(event.error_code))
            self.requests[event.stream_id].reset.set()
        elif isinstance(event, WindowUpdated):
            for request in self.requests.values():
                request.window.set()

    async def _run(self, request: Request) -> None:
        with contextlib.suppress(ProtocolError):  # the client reset the stream, or was told that the connection ends
            await self.server.script(request)

    def connection_lost(self, _error: Exception | None) -> None:
        self.server.seen.closed += 1
        self.server.seen.change()
        for task in self.tasks:
            task.cancel()


class Http2Server:
    """`async with serving(script) as server`, then `server.url`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen = Seen()
        self.peers: list[Peer] = []
        self.requests: list[Request] = []
        self.settings: dict[SettingCodes | int, int] = {}
        self.greets = True
        """Off: nothing is sent or understood until `Peer.greet`, but what the test writes."""
        self.accepted: Callable[[Peer], None] = lambda _peer: None
        self.credits_bodies = True
        self.url = ""
        self.port = 0


class Authority:
    """A throw-away CA, and contexts with certificates of it."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self._certificate = self._ca.issue_cert("localhost", "127.0.0.1")

    def write(self, path: str) -> str:
        """The CA as a file."""
        self._ca.cert_pem.write_to_path(path)
        return path

    def server_context(self, *protocols: str) -> ssl.SSLContext:
        """For a server that speaks these."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._certificate.configure_cert(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def write_certificate(self, folder: str) -> tuple[str, str]:
        """Certificate chain and key as files, for servers that others wrote."""
        chain, key = f"{folder}/chain.pem", f"{folder}/key.pem"
        for pem in self._certificate.cert_chain_pems:
            pem.write_to_path(chain, append=True)
        self._certificate.private_key_pem.write_to_path(key)
        return chain, key


@contextlib.asynccontextmanager
async def serving(
    script: Script = say_ok, *, tls: ssl.SSLContext | None = None, prepare: Callable[[Http2Server], None] | None = None
) -> AsyncIterator[Http2Server]:
    """The server while the block lasts."""
    server = Http2Server(script)
    if prepare is not None:
        prepare(server)
    listening = await asyncio.get_running_loop().create_server(lambda: Peer(server), "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://localhost:{server.port}"
    try:
        yield server
    finally:
        listening.close()
        tasks = [task for peer in server.peers for task in peer.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in server.peers:
            peer.transport.abort()
        await asyncio.sleep(0)
