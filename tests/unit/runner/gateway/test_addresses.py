"""Looking up the gateway's name: all addresses once, and no look-up keeps a run from its end."""

import asyncio
import socket
import threading
import time

import pytest

from agenttask.runner.gateway.addresses import resolve


def entry(address: str) -> tuple[object, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 8443))


async def test_each_address_stands_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [entry("10.0.0.1"), entry("10.0.0.2"), entry("10.0.0.1")])
    assert await resolve("gateway", 8443) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")], ids=["unknown", "no name"])
async def test_a_name_without_addresses_is_an_os_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(OSError, match=r"unknown|too long"):
        await resolve("gateway", 8443)


def test_no_run_waits_at_its_end_for_a_dns_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def wait(*_: object, **__: object) -> list[tuple[object, ...]]:
        answer.wait(20)
        return [entry("10.0.0.1")]

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolve("gateway", 8443)

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    before, began = set(threading.enumerate()), time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - began < 10
    late = set(threading.enumerate()) - before
    answer.set()
    for thread in late:
        thread.join(5)
        assert thread.daemon
