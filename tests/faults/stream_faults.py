"""Faults of watches: what a stream of events can do wrong between the server and us."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from tests.faults.plan import Fault
from tests.faults.proxy import Cut, Exchange

Lines = AsyncIterator[bytes]
_EXPIRED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}
"""What the API server says of a resourceVersion that is compacted."""


def streaming(change: Callable[[Lines], Lines]) -> Fault:
    """A watch whose lines pass through `change`."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        return await exchange.stream(change(exchange.lines()))

    return fault


def expired(after: int = 0) -> Fault:
    """410 Gone as an event, after so many others."""

    async def change(lines: Lines) -> Lines:
        async for line in _first(lines, after):
            yield line
        yield json.dumps({"type": "ERROR", "object": _EXPIRED}).encode() + b"\n"

    return streaming(change)


def cut_in_json(after: int = 0) -> Fault:
    """The connection breaks in the middle of an event, after so many others."""

    async def change(lines: Lines) -> Lines:
        seen = 0
        async for line in lines:
            if line and seen == after:
                yield line[: len(line) // 2]
                raise Cut
            seen += bool(line)
            yield line

    return streaming(change)


def ended(after: int = 0) -> Fault:
    """The server ends the stream, as it does when it is restarted."""
    return streaming(lambda lines: _first(lines, after))


def silent(release: asyncio.Event | None = None) -> Fault:
    """Open, and not a word: a connection that a load balancer forgot. With `release`, all that was held back comes then."""

    async def change(lines: Lines) -> Lines:
        async for line in lines:
            if line:
                await (release or asyncio.Event()).wait()
            yield line

    return streaming(change)


def bookmarks_only(release: asyncio.Event) -> Fault:
    """Alive, and behind: until the release only bookmarks come, of what was told already; then everything that was held back."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        async def change(lines: Lines) -> Lines:
            version = exchange.request.query.get("resourceVersion", "0")
            async for line in lines:
                while line and not release.is_set():
                    yield _bookmark(line, version)
                    await asyncio.sleep(0.2)
                if line:
                    version = json.loads(line)["object"]["metadata"]["resourceVersion"]
                yield line

        return await exchange.stream(change(exchange.lines()))

    return fault


async def repeated_lines(lines: Lines) -> Lines:
    """Every event twice."""
    async for line in lines:
        yield line
        if line:
            yield line


async def reordered_lines(lines: Lines) -> Lines:
    """Neighbouring events of different objects change places."""
    held: bytes = b""
    async for line in _with_pauses(lines, 0.1):
        if line and held and _uid(line) != _uid(held):
            yield line
            yield held
            held = b""
            continue
        if held:
            yield held
        held = line
        if not line:
            yield b""


async def coalesced_lines(lines: Lines) -> Lines:
    """Of an object's events that come close together only the last arrives."""
    held: dict[str, bytes] = {}
    async for line in _with_pauses(lines, 0.3):
        if line:
            uid = _uid(line)
            held.pop(uid, None)
            held[uid] = line
            continue
        for one in held.values():
            yield one
        held.clear()
        yield b""


def without(lost: Callable[[dict[str, Any]], bool]) -> Fault:
    """Events for which `lost` says so never arrive, though the connection is well."""

    async def change(lines: Lines) -> Lines:
        async for line in lines:
            if not line or not lost(json.loads(line)):
                yield line

    return streaming(change)


async def _first(lines: Lines, count: int) -> Lines:
    seen = 0
    async for line in lines:
        yield line
        seen += bool(line)
        if seen >= count:
            return


async def _with_pauses(lines: Lines, seconds: float) -> Lines:
    """The lines, and an empty one whenever nothing came for a while."""
    queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for line in lines:
                queue.put_nowait(line)
        except Exception as error:  # noqa: BLE001 - told where the lines are read
            queue.put_nowait(error)
        queue.put_nowait(None)

    pumping = asyncio.create_task(pump())
    try:
        while True:
            try:
                line = await asyncio.wait_for(queue.get(), seconds)
            except TimeoutError:
                yield b""
                continue
            if line is None:
                return
            if isinstance(line, Exception):
                raise line
            yield line
    finally:
        pumping.cancel()


def _bookmark(line: bytes, version: str) -> bytes:
    told = json.loads(line)["object"]
    kind = {"kind": told.get("kind"), "apiVersion": told.get("apiVersion")}
    return json.dumps({"type": "BOOKMARK", "object": kind | {"metadata": {"resourceVersion": version}}}).encode() + b"\n"


def _uid(line: bytes) -> str:
    return str(json.loads(line)["object"].get("metadata", {}).get("uid", ""))
