"""The gateway's socket: TLS, a bound on connections, on those of one address, and on the life of each.

A connection carries one request and is closed: attempts ask every few seconds, more seldom the more of them there are, and
ten thousand idle connections would cost more than the handshakes. So a timer from its first byte on is all that it takes
against one that sends nothing, or its headers one by one.

Connections are accepted here and not by the loop's own server, which tells of none before its handshake: a thousand that never
begin theirs hold 50 MB.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from agenttask.controller.gateway.identity import SecretIdentity

logger: Final = logging.getLogger(__name__)
_NO_MORE_FILES_SECONDS: Final = 0.1
"""Before the next connection is accepted, when the process has no file descriptor left."""
_BACKLOG: Final = 128
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

    def enter(self, address: str) -> bool:
        """Whether the address may have one more connection; then it has."""
        if self.open >= self._most or self._open[address] >= self._most_per_address:
            return False
        self._open[address] += 1
        return True

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
    """Stands before aiohttp's protocol of one connection, which is counted already."""

    def __init__(self, doors: Doors, address: str, make: Callable[[], web.RequestHandler]) -> None:
        self._doors, self._address, self._make = doors, address, make
        self._inner: web.RequestHandler
        self._timer: asyncio.TimerHandle | None = None
        """Runs from the handshake on."""

    def never_came(self) -> None:
        """Its handshake has failed."""
        if self._timer is None:
            self._doors.leave(self._address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._doors.seconds, transport.abort)  # type: ignore[attr-defined] # every transport of a stream has it
        self._inner = self._make()
        self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._doors.leave(self._address)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> None:
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
    listening = _bound(host, port)
    accepting = asyncio.create_task(_accept(listening, identity, doors, server), name="gateway's connections")
    rereading = asyncio.create_task(_keep_fresh(identity, refresh), name="gateway's certificate")
    try:
        yield int(listening.getsockname()[1])
    finally:
        rereading.cancel()
        accepting.cancel()
        await asyncio.wait({accepting})
        listening.close()
        await runner.cleanup()


def _bound(host: str | None, port: int) -> socket.socket:
    if host is None and socket.has_dualstack_ipv6():
        listening = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    else:
        listening = socket.create_server((host or "", port), backlog=_BACKLOG)
    listening.settimeout(0)
    return listening


async def _accept(listening: socket.socket, identity: SecretIdentity, doors: Doors, make: Callable[[], web.RequestHandler]) -> None:
    """Take connections for ever; those that are too many are closed at once."""
    loop = asyncio.get_running_loop()

    async def shake_hands(connection: socket.socket, address: str) -> None:
        door = _Door(doors, address, make)
        try:
            await loop.connect_accepted_socket(
                lambda: door,
                connection,
                ssl=identity.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=LINGERING_SECONDS,
            )
        except Exception as error:  # noqa: BLE001 - whatever one connection does, the next ones are taken
            logger.debug("%s: no handshake: %s: %s", address, type(error).__name__, error)
            door.never_came()

    async with asyncio.TaskGroup() as handshakes:
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("the gateway cannot take a connection: %s", error)
                await asyncio.sleep(_NO_MORE_FILES_SECONDS)
                continue
            if doors.enter(str(peer[0])):
                handshakes.create_task(shake_hands(connection, str(peer[0])), name="handshake")
            else:
                connection.close()


async def _keep_fresh(identity: SecretIdentity, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        identity.refresh()
