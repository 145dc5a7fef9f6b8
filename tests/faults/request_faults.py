"""Faults of single requests, before, at and after the API server."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.faults.plan import Fault
from tests.faults.proxy import Exchange

Kill = Callable[[], Awaitable[None]]


def answered(status: int, reason: str, message: str = "a planned fault", *, retry_after: int | None = None) -> Fault:
    """The server's answer, without the server: a metav1.Status."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": status}
        headers = {"Content-Type": "application/json"} | ({} if retry_after is None else {"Retry-After": str(retry_after)})
        return await exchange.answer((status, headers, json.dumps(body).encode()))

    return fault


async def refused(exchange: Exchange) -> web.StreamResponse:
    """The connection is reset before the server hears of it."""
    return exchange.drop()


async def lost_answer(exchange: Exchange) -> web.StreamResponse:
    """The server has done it, and the answer is lost."""
    await exchange.fetch()
    return exchange.drop()


def held_answer(release: asyncio.Event) -> Fault:
    """The server has done it at once, and the answer comes with the release."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        answer = await exchange.fetch()
        await release.wait()
        return await exchange.answer(answer)

    return fault


def late_answer(seconds: float) -> Fault:
    """The server has done it at once, and the answer takes longer than anybody waits."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        answer = await exchange.fetch()
        await asyncio.sleep(seconds)
        return await exchange.answer(answer)

    return fault


def late_request(seconds: float) -> Fault:
    """The request arrives late."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await exchange.forward()

    return fault


def hanging(release: asyncio.Event) -> Fault:
    """Nothing happens until the release, and then it is as if nothing had been."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await release.wait()
        return exchange.drop()

    return fault


def slow_body(*, chunk: int = 256, pause: float = 0.02) -> Fault:
    """The answer trickles."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        return await exchange.answer_slowly(await exchange.fetch(), chunk=chunk, pause=pause)

    return fault


def killed_before(kill: Kill) -> Fault:
    """SIGKILL: the request was sent and never arrives."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await kill()
        return exchange.drop()

    return fault


def killed_after(kill: Kill) -> Fault:
    """SIGKILL: the server has done it, and nobody is there to hear the answer."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await exchange.fetch()
        await kill()
        return exchange.drop()

    return fault


def time_travel(version: str) -> Fault:
    """A list as it was at an older resourceVersion: an API server that lags behind. The watch goes on from there."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        query = {name: value for name, value in exchange.request.query.items() if name != "continue"}
        return await exchange.answer(await exchange.fetch(query | {"resourceVersion": version, "resourceVersionMatch": "Exact"}))

    return fault
