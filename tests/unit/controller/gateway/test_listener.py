"""The socket: TLS by the mounted certificate, rotation without a restart, and connections that cost nothing for long."""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from tests.fakes.gateway_desk import HOST, SecretFolder

from agenttask.controller.gateway import listener
from agenttask.controller.gateway.identity import SecretIdentity
from agenttask.controller.gateway.listener import Doors, listen


async def hello(_: web.Request) -> web.Response:
    response = web.Response(text="hello")
    response.force_close()
    return response


async def never(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def listening(folder: Path, doors: Doors | None = None, refresh: float = 3600) -> AsyncIterator[tuple[int, SecretFolder]]:
    application = web.Application()
    application.router.add_get("/", hello)
    application.router.add_get("/never", never)
    secret = SecretFolder(folder)
    async with listen(application, SecretIdentity(folder), port=0, doors=doors or Doors(), host="127.0.0.1", refresh=refresh) as port:
        yield port, secret


async def connect(port: int, secret: SecretFolder) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=secret.trusting(), server_hostname=HOST)


async def ask(port: int, secret: SecretFolder) -> tuple[bytes, str]:
    """The whole answer, and the serial number of the certificate."""
    reader, writer = await connect(port, secret)
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer, serial


async def become(doors: Doors, count: int) -> None:
    """Wait until so many connections are open."""
    async with asyncio.timeout(60):
        while doors.open != count:  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.005)


async def test_a_connection_carries_one_request_over_tls(tmp_path: Path) -> None:
    async with listening(tmp_path) as (port, secret):
        answer, _ = await ask(port, secret)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")
    assert b"\r\nConnection: close\r\n" in answer


async def test_who_does_not_know_the_ca_or_speaks_no_tls_gets_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context(), server_hostname=HOST)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not (await reader.read()).startswith(b"HTTP")
        writer.close()


async def test_a_new_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    async with listening(tmp_path, refresh=0.01) as (port, secret):
        _, before = await ask(port, secret)
        secret.write()
        async with asyncio.timeout(60):
            while (await ask(port, secret))[1] == before:  # noqa: ASYNC110 - the server takes it up by itself
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"],
    ids=["nothing", "half a line", "half the headers", "half the body"],
)
async def test_whoever_is_slow_is_closed(tmp_path: Path, sent: bytes) -> None:
    async with listening(tmp_path, Doors(seconds=0.5)) as (port, secret):
        reader, writer = await connect(port, secret)
        writer.write(sent)
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                await reader.read()
        writer.close()


async def test_headers_that_come_byte_by_byte_do_not_keep_it_open(tmp_path: Path) -> None:
    doors = Doors(seconds=0.5)
    async with listening(tmp_path, doors) as (port, secret):
        _, writer = await connect(port, secret)
        sent = itertools.chain(b"GET / HTTP/1.1\r\nX: ", itertools.repeat(ord("a"), 4000))
        while doors.open:
            writer.write(bytes([next(sent)]))
            await asyncio.sleep(0.002)
        writer.close()


@pytest.mark.parametrize("doors", [Doors(most=2), Doors(most_per_address=2)], ids=["in all", "of one address"])
async def test_so_many_connections_and_no_more(tmp_path: Path, doors: Doors) -> None:
    async with listening(tmp_path, doors) as (port, secret):
        held = [await connect(port, secret) for _ in range(2)]
        await become(doors, 2)
        with pytest.raises(ConnectionError):
            await connect(port, secret)
        for _, writer in held:
            writer.close()
        await become(doors, 0)
        assert (await ask(port, secret))[0].endswith(b"hello")


async def test_a_request_under_way_does_not_keep_it_from_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CLOSING_SECONDS", 0.01)
    doors = Doors()
    async with asyncio.timeout(60):
        async with listening(tmp_path, doors) as (port, secret):
            _, writer = await connect(port, secret)
            writer.write(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
            await become(doors, 1)
            await asyncio.sleep(0.02)  # its request is with the application
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "no TLS"])
async def test_connections_count_before_their_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 1.0)
    doors = Doors(most_per_address=2)
    async with listening(tmp_path, doors) as (port, secret):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await become(doors, 2)
        with pytest.raises(ConnectionError):
            await connect(port, secret)
        for reader, writer in held:
            writer.write(sent)
            async with asyncio.timeout(60):
                with suppress(ConnectionError):
                    await reader.read()
            writer.close()
        await become(doors, 0)
        assert (await ask(port, secret))[0].endswith(b"hello")


def test_it_serves_on_the_loop_of_the_controller(tmp_path: Path) -> None:
    async def asked() -> bytes:
        async with listening(tmp_path) as (port, secret):
            return (await ask(port, secret))[0]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asked()).endswith(b"hello")
