"""aiohttp's connector with HTTP/2 beside HTTP/1.1: a request of `StreamRequest` gets a stream, every other one a connection."""

import asyncio
import functools
import ssl
from collections.abc import Iterator
from typing import cast

from aiohttp import ClientRequest, ClientTimeout

from agenttask.runner.http2.aiohttp_parts import Connection, ConnectionKey, Dial, Dialler, StreamRequest, Trace
from agenttask.runner.http2.answer import Lease
from agenttask.runner.http2.connection import Http2Connection
from agenttask.runner.http2.errors import NotHttp2
from agenttask.runner.http2.origins import Http1Origins
from agenttask.runner.http2.pool import OriginLoad, Pool
from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http2.tls import TlsContexts


class Http2Connector(Dialler):
    """Made in a running loop; closing it closes the connections of both protocols."""

    def __init__(self, *, settings: Http2Settings, tls: TlsContexts, limit: int, limit_per_host: int, ttl_dns_cache: int) -> None:
        super().__init__(limit=limit, limit_per_host=limit_per_host, ttl_dns_cache=ttl_dns_cache)
        self.settings = settings
        self.tls = tls
        loop = asyncio.get_running_loop()
        self.pool = Pool[tuple[ConnectionKey, bool]](settings, loop)
        self.http1 = Http1Origins[ConnectionKey](settings.remember_seconds, loop.time)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109  # aiohttp's
        """A connection for one request, or what looks like one."""
        if not isinstance(req, StreamRequest):
            return await super().connect(req, traces, timeout)
        key = (req.request.connection_key, req.prior_knowledge)
        waits = self.pool.waits(key)
        if waits:
            for trace in traces:
                await trace.send_connection_queued_start()
        async with asyncio.timeout(timeout.connect or None):
            stream = await self.pool.acquire(key, functools.partial(self._dial, req, traces), dial_seconds=timeout.sock_connect)
        lease = Lease(stream)
        try:
            for trace in traces:
                await (trace.send_connection_queued_end() if waits else trace.send_connection_reuseconn())
        except BaseException:
            lease.close()
            raise
        return cast("Connection", lease)

    async def _dial(self, request: StreamRequest, traces: list[Trace]) -> Http2Connection:
        """Several requests may wait for it, hence without the time-outs of the one that it is made for: the pool keeps to those."""
        context: ssl.SSLContext | None = None
        if request.request.is_ssl():
            context = self.tls.offering_http2(context=cast("ssl.SSLContext | bool", request.request.ssl), only=request.prior_knowledge)
            if context is None:
                raise NotHttp2("HTTP/2 is offered with a context of the session's only, not with one that a request brings")
        loop = asyncio.get_running_loop()
        dial = Dial(request.request, context, lambda: Http2Connection(loop, self.settings, self.pool.changed))
        return cast("Http2Connection", await self.dial(dial, traces, ClientTimeout()))

    def http2_origins(self) -> Iterator[tuple[str, OriginLoad]]:
        """What each origin has that speaks HTTP/2; one that is reached by several names or contexts comes several times."""
        for (key, _prior), load in self.pool.load().items():
            if load.connections:
                yield _origin(key), load

    def http1_origins(self) -> Iterator[str]:
        """The origins that chose HTTP/1.1, as far as it is remembered."""
        yield from map(_origin, self.http1)

    async def close(self, *, abort_ssl: bool = False) -> None:
        """End everything."""
        await self.pool.close()
        await super().close(abort_ssl=abort_ssl)


def _origin(key: ConnectionKey) -> str:
    return f"{'https' if key.is_ssl else 'http'}://{key.server_hostname or key.host}:{key.port}"
