"""The gateway's socket: TLS, a bound on connections, on those of one address, and on the life of each.

A connection carries one request and is closed: attempts ask every few seconds, more seldom the more of them there are, and
ten thousand idle connections would cost more than the handshakes. So a timer from its first byte on is all that it takes
against one that sends nothing, or its headers one by one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from agenttask.controller.gateway.identity import SecretIdentity

CONNECTION_SECONDS: Final = 30.0
"""From the handshake's end to the last byte of the answer."""
HANDSHAKE_SECONDS: Final = 5.0
CONNECTIONS: Final = 512
CONNECTIONS_PER_ADDRESS: Final = 16
REFRESH_SECONDS: Final = 10.0
LINGERING_SECONDS: Final = 2.0
"""What a refused body still sends is read away for so long, so that the refusal is seen and no reset."""
CLOSING_SECONDS: Final = 0.5
"""A request that is under way when the replica stops: a write ends in it, and the lease waits for no body that comes slowly."""


class Doors:
    """Counts connections, and closes those that are too many or too old."""

    def __init__(
        self, *, most: int = CONNECTIONS, most_per_address: int = CONNECTIONS_PER_ADDRESS, seconds: float = CONNECTION_SECONDS
    ) -> None:
        self._most, self._most_per_address, self._seconds = most, most_per_address, seconds
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self._open.total()

    def enter(self, transport: asyncio.BaseTransport) -> str | None:
        """The address that now has one more; None when this one is to be closed."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if self.open >= self._most or self._open[address] >= self._most_per_address:
            return None
        self._open[address] += 1
        return address

    def leave(self, address: str) -> None:
        """One connection of the address is closed."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]

    @property
    def seconds(self) -> float:
        """How long a connection may live."""
        return self._seconds


class _Door(asyncio.Protocol):
    """Stands before aiohttp's protocol of one connection."""

    def __init__(self, doors: Doors, inner: web.RequestHandler) -> None:
        self._doors, self._inner = doors, inner
        self._address: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._address = self._doors.enter(transport)
        if self._address is None:
            transport.abort()  # type: ignore[attr-defined] # every transport of a stream has it
            return
        self._timer = asyncio.get_running_loop().call_later(self._doors.seconds, transport.abort)  # type: ignore[attr-defined]
        self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._address is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._doors.leave(self._address)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is not None:
            self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._address is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


@asynccontextmanager
async def listen(
    application: web.Application,
    identity: SecretIdentity,
    *,
    port: int,
    doors: Doors,
    host: str | None = None,
    refresh: float = REFRESH_SECONDS,
) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port. A new certificate is taken up within `refresh` seconds."""
    runner = web.AppRunner(
        application, access_log=None, auto_decompress=False, lingering_time=LINGERING_SECONDS, shutdown_timeout=CLOSING_SECONDS
    )
    await runner.setup()
    server = runner.server
    if server is None:
        raise AssertionError("an AppRunner that is set up has a server")
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: _Door(doors, server()),
        host,
        port,
        ssl=identity.context,
        ssl_handshake_timeout=HANDSHAKE_SECONDS,
        ssl_shutdown_timeout=LINGERING_SECONDS,
    )
    rereading = asyncio.create_task(_keep_fresh(identity, refresh), name="gateway's certificate")
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        rereading.cancel()
        listening.close()
        await runner.cleanup()


async def _keep_fresh(identity: SecretIdentity, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        identity.refresh()
