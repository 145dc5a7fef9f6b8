"""HTTP/2 as an aiohttp client middleware: a request goes out as a stream where its origin speaks HTTP/2, else as ever.

    session = ClientSession(connector=Http2Connector(...), middlewares=[Http2Middleware(connector, mode="Auto")])

It must be the last of a session's middlewares, as it hands a request of its own to aiohttp. Responses are ordinary
ClientResponses; time-outs, redirects, cookies, traces and `raise_for_status` are aiohttp's.
"""

import ssl
from typing import cast

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from agenttask.runner.http2.aiohttp_parts import StreamRequest, must_speak_http1, use_context
from agenttask.runner.http2.connector import Http2Connector
from agenttask.runner.http2.errors import NotHttp2, StreamRefused
from agenttask.runner.http2.settings import Http2Mode


class Http2Middleware:
    """One policy, on connections that other policies share: a mode, and whom to trust."""

    def __init__(self, connector: Http2Connector, *, mode: Http2Mode = "Auto", context: ssl.SSLContext | None = None) -> None:
        self._connector = connector
        self._mode = mode
        self._context = context

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send one request.

        Raises:
            NotHttp2: prior knowledge was wrong.
        """
        if self._context is not None:
            use_context(request, self._context)
        if self._mode == "Disabled" or must_speak_http1(request):
            return await handler(request)
        prior = self._mode == "PriorKnowledge"
        origin = request.connection_key
        if not prior and (not request.is_ssl() or origin in self._connector.http1):
            return await handler(request)
        try:
            return await self._send(request, handler, prior=prior)
        except NotHttp2:
            if prior:
                raise
            self._connector.http1.remember(origin)
            return await handler(request)

    async def _send(self, request: ClientRequest, handler: ClientHandlerType, *, prior: bool) -> ClientResponse:
        """Send it, again where the server says that it did not touch it and the body can be read again."""
        sends = self._connector.settings.sends
        while True:
            try:
                return await handler(cast("ClientRequest", StreamRequest(request, prior_knowledge=prior)))
            except StreamRefused:
                sends -= 1
                await request.close()  # whatever still writes the body
                if sends <= 0 or (request.body and request.body.consumed):
                    raise
