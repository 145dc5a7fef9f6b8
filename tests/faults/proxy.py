"""Stands between one controller and the API server, and does to each request what the plan of faults says.

Plain HTTP towards the controller, TLS towards the server; the controller's own token passes through. What the plan does
not name is passed on as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from typing import Final, Self

import aiohttp
from aiohttp import web

from tests.fakes.held_port import held_port
from tests.faults.eventually import PATIENCE
from tests.faults.plan import Plan
from tests.faults.request import Request, parse

_PASSED: Final = ("Authorization", "Accept", "Content-Type", "User-Agent")
Answer = tuple[int, dict[str, str], bytes]


class Cut(Exception):
    """The connection breaks here."""


class Exchange:
    """One request on its way, as a fault sees it."""

    def __init__(self, proxy: "FaultProxy", raw: web.Request, request: Request) -> None:
        self._proxy, self._raw = proxy, raw
        self.request = request

    async def fetch(self, query: dict[str, str] | None = None) -> Answer:
        """Have the server do it, without answering yet; with another query, perhaps."""
        async with self._proxy.session.request(
            self.request.method,
            self._proxy.server + self.request.path,
            params=self.request.query if query is None else query,
            data=self.request.body or None,
            headers=self._headers(),
        ) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return answer.status, kept, await answer.read()

    async def answer(self, answer: Answer) -> web.StreamResponse:
        """Answer the controller."""
        status, headers, body = answer
        return web.Response(status=status, headers=headers, body=body)

    async def answer_slowly(self, answer: Answer, *, chunk: int, pause: float) -> web.StreamResponse:
        """Answer a few bytes at a time."""
        status, headers, body = answer
        response = web.StreamResponse(status=status, headers=headers | {"Content-Length": str(len(body))})
        await response.prepare(self._raw)
        for start in range(0, len(body), chunk):
            await response.write(body[start : start + chunk])
            await asyncio.sleep(pause)
        await response.write_eof()
        return response

    async def lines(self) -> AsyncIterator[bytes]:
        """The events of a watch, as the server sends them."""
        async with self._proxy.session.get(
            self._proxy.server + self.request.path,
            params=self.request.query,
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=1 << 24,
        ) as answer:
            if answer.status >= 300:
                raise _Refusal((answer.status, {"Content-Type": "application/json"}, await answer.read()))
            yield b""  # the stream is open
            async for line in answer.content:
                yield line

    async def stream(self, lines: AsyncIterator[bytes]) -> web.StreamResponse:
        """Answer with a stream; `Cut` breaks the connection after what was written."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        async with aclosing(lines):  # type: ignore[type-var]
            try:
                async for line in lines:
                    if not response.prepared:
                        await response.prepare(self._raw)
                    if line:
                        await response.write(line)
            except _Refusal as refusal:
                return await self.answer(refusal.answer)
            except Cut:
                return self.drop()
        if not response.prepared:
            await response.prepare(self._raw)
        await response.write_eof()
        return response

    async def forward(self) -> web.StreamResponse:
        """No fault."""
        return await self.stream(self.lines()) if self.request.watch else await self.answer(await self.fetch())

    @property
    def authorization(self) -> str:
        """What the controller shows of itself."""
        return self._raw.headers.get("Authorization", "")

    def drop(self) -> web.StreamResponse:
        """Reset the connection."""
        if self._raw.transport is not None:
            self._raw.transport.abort()
        return web.Response()

    def _headers(self) -> dict[str, str]:
        return {name: self._raw.headers[name] for name in _PASSED if name in self._raw.headers} | {"Accept-Encoding": "identity"}


class _Refusal(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer[0])
        self.answer = answer


class FaultProxy:
    """One controller's way to the API server."""

    def __init__(self, server: str, plan: Plan) -> None:
        self.server, self.plan = server, plan
        self.seen: list[Request] = []
        """Every request, in the order of arrival."""
        self._changed = asyncio.Condition()
        self._holding = ExitStack()

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, limit=0), auto_decompress=False)
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self.port = self._holding.enter_context(held_port())
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self.session.close()
        self._holding.close()

    @property
    def url(self) -> str:
        """What the controller takes for the API server."""
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen; the port stays the same, and ours in between."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()

    async def close(self) -> None:
        """Refuse connections, and break those that are open: an outage."""
        await self._site.stop()
        for connection in list(self._runner.server.connections if self._runner.server is not None else ()):
            if connection.transport is not None:
                connection.transport.abort()

    async def until(self, wanted: Callable[[list[Request]], bool], seconds: float = PATIENCE) -> None:
        """Wait until the requests so far are as wanted."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: wanted(self.seen))

    async def _handle(self, raw: web.Request) -> web.StreamResponse:
        request = parse(raw.method, raw.path, raw.query, await raw.read())
        async with self._changed:
            self.seen.append(request)
            self._changed.notify_all()
        exchange = Exchange(self, raw, request)
        fault = self.plan.fault_for(request)
        try:
            return await (fault(exchange) if fault is not None else exchange.forward())
        except (aiohttp.ClientError, TimeoutError, OSError):  # the server is down, or the controller is gone
            return exchange.drop()
