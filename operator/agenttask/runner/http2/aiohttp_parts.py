# ruff: noqa: SLF001  # private parts are what this module is for
"""All that we use of aiohttp beyond its public face; hence its pin, and `tests/unit/runner/http2/test_aiohttp_parts.py`.

A middleware gets a ClientRequest and a handler. The handler asks the session's connector for a connection with the
request's own time-outs, tells that connection how the session wants its answers, calls `request.send(connection)` and then
`response.start(connection)`. So a request of ours that is passed to the handler, and a connector that knows it, get all
settings of an ordinary request, and what comes out is an ordinary ClientResponse.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from aiohttp import ClientRequest, ClientResponse, ClientTimeout, HttpVersion, StreamReader, TCPConnector, hdrs
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_parser import DeflateBuffer, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.tracing import Trace
from msgspec import Struct
from multidict import CIMultiDict, CIMultiDictProxy

from agenttask.runner.http2.body import BodyWriter
from agenttask.runner.http2.fields import RawFields, request_fields
from agenttask.runner.http2.stream import Sink, Stream

__all__ = ["Body", "Connection", "ConnectionKey", "Dialler", "Head", "ResponseParameters", "StreamRequest", "Trace", "head", "no_body"]

Head = tuple[RawResponseMessage, StreamReader]
_HTTP2 = HttpVersion(2, 0)
_DECODED = frozenset({"br", "deflate", "gzip", "zstd"})


class ResponseParameters(Struct, frozen=True, kw_only=True):
    """What `set_response_params` is given, as far as HTTP/2 has it; lines are bounded by `h2`."""

    skip_payload: bool = False
    auto_decompress: bool = True
    read_timeout: float | None = None
    read_bufsize: int = 1 << 16
    max_headers: int = 128

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "ResponseParameters":
        """Those we know of."""
        return cls(**{name: given[name] for name in cls.__struct_fields__ if name in given})


def head(status: int, reason: str, headers: CIMultiDict[str], raw: RawFields) -> RawResponseMessage:
    """Status and fields as aiohttp's parser gives them."""
    return RawResponseMessage(_HTTP2, status, reason, CIMultiDictProxy(headers), tuple(raw), False, None, False, False)  # noqa: FBT003


def no_body() -> StreamReader:
    """A body that has ended."""
    return EMPTY_PAYLOAD


class Body:
    """A response's StreamReader, with the decompression that its fields ask for."""

    def __init__(self, protocol: object, parameters: ResponseParameters, encoding: str | None, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = StreamReader(cast("Any", protocol), parameters.read_bufsize, loop=loop)
        self.ended = False
        self.more = False
        """The decompressor holds back output until the reader has taken what is there."""
        known = (encoding or "").lower()
        self._inflate = (
            DeflateBuffer(self.reader, known, max_decompress_size=parameters.read_bufsize)
            if parameters.auto_decompress and known in _DECODED
            else None
        )

    def feed(self, data: bytes) -> None:
        """A piece as it came; empty to get at what the decompressor holds."""
        if self._inflate is None:
            self.reader.feed_data(data)
        else:
            self.more = self._inflate.feed_data(data, len(data))

    def end(self) -> None:
        """No more comes."""
        self.ended = True
        if self._inflate is None:
            self.reader.feed_eof()
        else:
            self._inflate.feed_eof()

    def fail(self, error: BaseException) -> None:
        """Whoever reads gets the error."""
        self.reader.set_exception(error)


class StreamConnection(Protocol):
    """A `Lease`, which stands in for aiohttp's Connection."""

    stream: Stream

    @property
    def protocol(self) -> Any:
        """An `Answer`."""
        ...


class StreamRequest:
    """A ClientRequest that goes out as a stream; all but `send` is the original's."""

    def __init__(self, request: ClientRequest, *, prior_knowledge: bool) -> None:
        self.request = request
        self.prior_knowledge = prior_knowledge
        self._upload_tracker = request._upload_tracker
        self._upload_gen = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    async def send(self, connection: StreamConnection) -> ClientResponse:
        """Send fields and body; the body goes on while the answer comes."""
        request, stream = self.request, connection.stream
        request._upload_gen = self._upload_gen
        headers = request.headers
        skipped = request.skip_auto_headers
        if request.method in request.POST_METHODS and hdrs.CONTENT_TYPE not in headers and hdrs.CONTENT_TYPE not in skipped:
            headers[hdrs.CONTENT_TYPE] = "application/octet-stream"
        fields = request_fields(request.method, request.url.scheme, request.url.raw_path_qs, headers)
        sink: Sink = connection.protocol
        has_body = bool(request.body) or request._continue is not None
        stream.open(fields, sink, end=not has_body)
        for trace in request._traces:
            await trace.send_request_headers(request.method, request.url, headers)
        writer = BodyWriter(stream, self._chunk_sent if request._traces else None, length=request._get_content_length())
        if request.compress:
            writer.enable_compression(cast("str", request.compress))
        task = await self._send_body(connection, writer) if has_body else None
        if not has_body:
            connection.protocol.start_timeout()
            if self._upload_tracker is not None:
                self._upload_tracker._attempt_finished(request._upload_gen)
        response_class = request.response_class
        assert response_class is not None
        return response_class(
            request.method,
            request.original_url,
            writer=task,
            continue100=request._continue,
            timer=cast("Any", request._timer),
            request_info=request.request_info,
            traces=request._traces,
            loop=request.loop,
            session=cast("Any", request._session),
            stream_writer=writer,
        )

    async def _send_body(self, connection: StreamConnection, writer: BodyWriter) -> asyncio.Task[None] | None:
        request = self.request
        sending = request.write_bytes(writer, cast("Connection", connection), request._get_content_length())
        size = request.body.size if request.body else None
        if size is not None and size <= connection.stream.room() and request._continue is None and not request.compress:
            await sending  # it fits: no task for it
            return None
        task = asyncio.create_task(sending)
        request._writer = task
        return task

    async def _chunk_sent(self, chunk: bytes) -> None:
        for trace in self.request._traces:
            await trace.send_request_chunk_sent(self.request.method, self.request.url, chunk)


def must_speak_http1(request: ClientRequest) -> bool:
    """What HTTP/2 has no place for here: a proxy, an upgrade (WebSocket), CONNECT, a certificate's fingerprint."""
    return (
        request.proxy is not None
        or hdrs.UPGRADE in request.headers
        or request.method == hdrs.METH_CONNECT
        or not isinstance(request.ssl, (bool, ssl.SSLContext))
    )


def use_context(request: ClientRequest, context: ssl.SSLContext) -> None:
    """Verify with this context; only a request that is not to be verified at all is left as it is."""
    if request.ssl is True or isinstance(request.ssl, ssl.SSLContext):
        request._ssl = context


class Dial:
    """A ClientRequest as the connector's dialling looks at it, with the context that offers HTTP/2."""

    def __init__(self, request: ClientRequest, context: ssl.SSLContext | None, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.request = request
        self.context = context
        self.protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)


class Dialler(TCPConnector):
    """aiohttp's connector, which can dial for another protocol: its resolver and cache, happy eyeballs, time-outs and errors are ours."""

    async def dial(self, dial: Dial, traces: list[Trace], timeout: ClientTimeout) -> asyncio.Protocol:  # noqa: ASYNC109  # a set of them
        """A new connection with `dial.protocol` on it."""
        for trace in traces:
            await trace.send_connection_create_start()
        _transport, protocol = await self._create_direct_connection(cast("ClientRequest", dial), traces, timeout)
        for trace in traces:
            await trace.send_connection_create_end()
        return cast("asyncio.Protocol", protocol)

    def _get_ssl_context(self, req: ClientRequest) -> ssl.SSLContext | None:
        return req.context if isinstance(req, Dial) else super()._get_ssl_context(req)

    async def _wrap_create_connection(self, *args: Any, req: ClientRequest, **kwargs: Any) -> Any:
        if isinstance(req, Dial):
            args = (req.protocol, *args[1:])
        return await super()._wrap_create_connection(*args, req=req, **kwargs)
