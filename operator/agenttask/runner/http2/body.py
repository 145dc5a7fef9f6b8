"""The body of a request, as aiohttp's payloads write it, into a stream: compressed where asked, never faster than the peer takes it.

Where its length is known, the end of the request goes out with the last byte and not as a frame of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp.abc import AbstractStreamWriter
from aiohttp.compression_utils import ZLibCompressor
from multidict import CIMultiDict

from agenttask.runner.http2.stream import Stream

ChunkSent = Callable[[bytes], Awaitable[None]]


class BodyWriter(AbstractStreamWriter):
    """What `ClientRequest.write_bytes` writes to; the fields of the request are out already."""

    def __init__(self, stream: Stream, sent: ChunkSent | None = None, *, length: int | None = None) -> None:
        self.output_size = 0
        self._length = length
        self._stream = stream
        self._sent = sent
        self._compressor: ZLibCompressor | None = None

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """For aiohttp's upload progress."""
        return self._stream.connection.transport

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Compress what is written."""
        self._compressor = ZLibCompressor(encoding=encoding, strategy=strategy)

    def enable_chunking(self) -> None:
        """HTTP/2 has frames for that."""

    async def write_headers(self, status_line: str, headers: "CIMultiDict[str]") -> None:
        """They were sent when the stream was opened."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Send a piece."""
        if self._sent is not None:
            await self._sent(bytes(chunk))
        size = len(chunk)
        data = chunk if self._compressor is None else await self._compressor.compress(bytes(chunk))
        self.output_size += len(data)
        await self._stream.write(data, last=self._compressor is None and self.output_size == self._length)
        if self.on_body_write is not None:
            self.on_body_write(size, self.output_size)

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Send the last piece and the end."""
        if chunk:
            await self.write(chunk)
        if self._compressor is not None and (rest := self._compressor.flush()):
            self.output_size += len(rest)
            await self._stream.write(rest)
        self._stream.end()

    async def drain(self) -> None:
        """Wait for the socket."""
        await self._stream.drained()
