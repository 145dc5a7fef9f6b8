"""The gateway's HTTP: four paths, bodies bounded while they are read, and every refusal in the words of api/gateway.py.

Who asks is settled by the headers, before a byte of the body is taken; a body that comes too slowly is not waited for.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from agenttask.api.gateway import (
    CHECKPOINT_PATH,
    MAX_LIVE_REPORT_BYTES,
    MAX_RECORD_BYTES,
    OUTPUT_PATH,
    REPORT_PATH,
    Refusal,
    TokenClaims,
    decode_live_report,
    encode_answer,
)
from agenttask.controller.gateway.desk import Desk
from agenttask.controller.gateway.refusals import Busy, Malformed, NotLeader, Refused, TooLarge, Unavailable

logger: Final = logging.getLogger(__name__)
BODY_SECONDS: Final = 10.0
"""900 KiB in this time are 90 KiB a second."""
LARGE_BODIES: Final = 16
"""So many bodies of checkpoints and outputs at once; each takes some four times its size until it is stored."""
_TURN_SECONDS: Final = 5.0
_SOON: Final = 1.0
_encode_refusal: Final = msgspec.json.Encoder().encode
_Act = Callable[[web.Request, TokenClaims], Awaitable[web.Response]]
_BYTES: Final = "application/octet-stream"
_JSON: Final = "application/json"


class Gateway:
    """The application. `ready` says what is not yet known here, if anything; `leading` whether this replica writes."""

    def __init__(
        self,
        desk: Desk,
        *,
        leading: Callable[[], bool],
        ready: Callable[[], str | None],
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._desk, self._leading, self._ready, self._body_seconds = desk, leading, ready, body_seconds
        self._large = _Large(LARGE_BODIES)

    def application(self) -> web.Application:
        """What a listener serves."""
        application = web.Application(middlewares=[self._answer])
        application.router.add_get(CHECKPOINT_PATH, self._admitted(self._get_checkpoint), allow_head=False)
        application.router.add_put(CHECKPOINT_PATH, self._admitted(self._put_checkpoint))
        application.router.add_put(OUTPUT_PATH, self._admitted(self._put_output))
        application.router.add_post(REPORT_PATH, self._admitted(self._post_report))
        return application

    def _admitted(self, act: _Act) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            if not self._leading():
                raise NotLeader("another replica is the leader; ask the next address", retry_after=_SOON)
            problem = self._ready()
            if problem is not None:
                raise Unavailable(f"the controller is starting: {problem}", retry_after=_SOON)
            claims = await self._desk.admit(request.headers.get("Authorization"))
            return await act(request, claims)

        return handle

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every refusal as JSON; and each connection carries one request (listener.py says why)."""
        try:
            response = await handler(request)
        except Refused as refused:
            logger.debug("%s %s: %s %s", request.method, request.path, refused.status, refused)
            response = _refusal(refused.status, refused.reason, str(refused), refused.retry_after)
        except web.HTTPException as error:
            response = _refusal(error.status, "", f"{request.method} {request.path}: {error.reason}", None)
        response.force_close()
        return response

    async def _get_checkpoint(self, _: web.Request, claims: TokenClaims) -> web.Response:
        return web.Response(body=await self._desk.checkpoint(claims), content_type=_BYTES)

    async def _put_checkpoint(self, request: web.Request, claims: TokenClaims) -> web.Response:
        async with self._large.turn(claims.uid):
            body = await self._body(request, MAX_RECORD_BYTES)
            if not body:
                raise Malformed("an empty body is no checkpoint")
            await self._desk.keep_checkpoint(claims, body)
        return web.Response(status=204)

    async def _put_output(self, request: web.Request, claims: TokenClaims) -> web.Response:
        async with self._large.turn(claims.uid):
            body = await self._body(request, MAX_RECORD_BYTES)
            try:
                text = body.decode()
            except UnicodeDecodeError as error:
                raise Malformed(f"the output is not UTF-8: {error}") from error
            await self._desk.keep_output(claims, text)
        return web.Response(status=204)

    async def _post_report(self, request: web.Request, claims: TokenClaims) -> web.Response:
        body = await self._body(request, MAX_LIVE_REPORT_BYTES)
        try:
            told = decode_live_report(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"this is no report: {error}") from error
        return web.Response(body=encode_answer(self._desk.report(claims, told)), content_type=_JSON)

    async def _body(self, request: web.Request, limit: int) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it has more than `limit` bytes; the rest is not read.
            Malformed: it is compressed, does not come whole, or not in time.
        """
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Malformed("bodies are taken uncompressed only")
        if (request.content_length or 0) > limit:
            raise TooLarge(f"the body has {request.content_length} bytes, at most {limit} are taken")
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise TooLarge(f"the body has more than {limit} bytes")
        except TimeoutError as error:
            raise Malformed(f"the body did not come within {self._body_seconds:.0f} s") from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise Malformed(f"the body did not come whole: {error}") from error
        return bytes(body)


class _Large:
    """The places for large bodies: a task has one at most, so that nobody holds all of them by sending slowly."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._sending: set[str] = set()

    @asynccontextmanager
    async def turn(self, uid: str) -> AsyncIterator[None]:
        """A place, waited for only so long.

        Raises:
            Busy: the task has one already, or none became free.
        """
        if uid in self._sending:
            raise Busy("another large body of this task is under way", retry_after=_SOON)
        self._sending.add(uid)
        try:
            try:
                async with asyncio.timeout(_TURN_SECONDS):
                    await self._places.acquire()
            except TimeoutError as error:
                raise Busy("too many large bodies at once", retry_after=_SOON) from error
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._sending.remove(uid)


def _refusal(status: int, reason: str, error: str, retry_after: float | None) -> web.Response:
    headers = {"Retry-After": str(max(1, math.ceil(retry_after)))} if retry_after is not None else {}
    return web.Response(status=status, body=_encode_refusal(Refusal(error=error, reason=reason)), content_type=_JSON, headers=headers)
