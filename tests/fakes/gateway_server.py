"""The controller's gateway as a runner meets it: a record in memory behind HTTPS, on several addresses, and out of order as told."""

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import msgspec
import trustme
from aiohttp import web

from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import (
    CHECKPOINT_PATH,
    MAX_RECORD_BYTES,
    OUTPUT_PATH,
    REPORT_PATH,
    LiveReport,
    Refusal,
    RefusalReason,
    ReportAnswer,
    decode_live_report,
    encode_answer,
)
from tests.fakes.own_thread import in_own_thread

HOST = "agenttask-gateway.test.svc"
TOKEN = "payload.mac"
Act = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What an address does in place of its answer."""


def refusal(status: int, reason: RefusalReason = RefusalReason.UNAVAILABLE, error: str = "not now", **headers: str) -> Act:
    """A refusal as the controller writes it."""

    async def act(_request: web.Request) -> web.Response:
        return _refused(status, reason, error, {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def answering(body: bytes, status: int = 200, **headers: str) -> Act:
    """Any body."""

    async def act(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return act


async def hang(_request: web.Request) -> web.Response:
    """No answer at all."""
    await asyncio.sleep(3600)
    raise AssertionError


async def reset(request: web.Request) -> web.Response:
    """The connection is gone before an answer."""
    assert request.transport is not None
    request.transport.abort()
    raise asyncio.CancelledError


async def cut(request: web.Request) -> web.StreamResponse:
    """The connection is gone in the middle of the answer's body."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def noise(request: web.Request) -> web.Response:
    """Bytes that are no HTTP."""
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.write(b"\x00\xff this is no answer\r\n\r\n")
    request.transport.close()
    raise asyncio.CancelledError


class FakeGateway:
    """One task's record; `acts` are what an address does before it answers again, `asked` every request as `address method path`."""

    def __init__(self) -> None:
        self.checkpoint: bytes | None = None
        self.output: str | None = None
        self.checkpoints: list[bytes] = []
        self.reports: list[LiveReport] = []
        self.tokens: set[str | None] = set()
        self.hosts: set[str] = set()
        self.encodings: set[str | None] = set()
        self.answer = ReportAnswer()
        self.acts: defaultdict[str, deque[Act]] = defaultdict(deque)
        self.always: dict[str, Act] = {}
        """By path, or address."""
        self.asked: list[str] = []
        self.limit = MAX_RECORD_BYTES

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Do as told, else answer."""
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        self.asked.append(f"{address} {request.method} {request.path}")
        self.tokens.add(request.headers.get("Authorization"))
        self.hosts.add(request.host.rpartition(":")[0])
        self.encodings.add(request.headers.get("Accept-Encoding"))
        if self.acts[address]:
            return await self.acts[address].popleft()(request)
        for key in (request.path, address):
            if key in self.always:
                return await self.always[key](request)
        return await self._answer(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        match request.method, request.path:
            case "GET", path if path == CHECKPOINT_PATH:
                if self.checkpoint is None:
                    return _refused(404, RefusalReason.NOT_FOUND, "nothing is stored")
                return web.Response(body=self.checkpoint)
            case "PUT", path if path == CHECKPOINT_PATH:
                if (beside := len((self.output or "").encode())) + len(body) > self.limit:
                    return _refused(413, RefusalReason.TOO_LARGE, f"the checkpoint has {len(body)} bytes, with {beside} beside it")
                self.checkpoint = body
                self.checkpoints.append(body)
                return web.Response(status=204)
            case "PUT", path if path == OUTPUT_PATH:
                if (beside := len(self.checkpoint or b"")) + len(body) > self.limit:
                    return _refused(413, RefusalReason.TOO_LARGE, f"the output has {len(body)} bytes, with {beside} beside it")
                self.output = body.decode()
                return web.Response(status=204)
            case "POST", path if path == REPORT_PATH:
                try:
                    self.reports.append(decode_live_report(body))
                except msgspec.MsgspecError as error:
                    return _refused(400, RefusalReason.MALFORMED, str(error))
                return web.Response(body=encode_answer(self.answer))
        raise AssertionError(f"{request.method} {request.path} is not of the contract")


def _refused(status: int, reason: RefusalReason, error: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(Refusal(error=error, reason=reason)), headers=headers)


@asynccontextmanager
async def serving(gateway: FakeGateway, addresses: Sequence[str] = ("127.0.0.1",), host: str = HOST) -> AsyncIterator[GatewayDocument]:
    """Its document, while it answers on the same port of each address."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    runner = web.ServerRunner(web.Server(gateway.handle), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    port = 0
    for address in addresses:
        site = web.TCPSite(runner, address, port, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
    try:
        yield GatewayDocument(url=f"https://{host}:{port}", ca=authority.cert_pem.bytes().decode())
    finally:
        await runner.cleanup()


@contextmanager
def in_thread(gateway: FakeGateway) -> Iterator[GatewayDocument]:
    """The same for other processes, as `localhost`."""
    with in_own_thread(serving(gateway, host="localhost")) as document:
        yield document
