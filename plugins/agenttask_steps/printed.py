"""What a command prints, held in bounded memory while it prints.

Protocols of the pipes, not tasks that read them: what arrives is counted where it arrives, and a command that prints a
hundred megabytes is killed at the first byte too many. One that may print them (`output: Tail`) is read at a pace that
leaves the event loop to others.
"""

import asyncio
import codecs
from collections.abc import Callable
from typing import cast

from agenttask_steps.lines import LineLog
from agenttask_steps.mask import MaskedStream

ERROR_TAIL_CHARACTERS = 4096
TAIL_BYTES = 64 * 1024
_PACE_BYTES = 2 << 20
_PACE_SECONDS = 0.1
"""20 MiB a second: read, decoded and covered, they take a tenth of a processor."""
_CONTINUATION = range(0x80, 0xC0)


class Shown:
    """Bytes of one stream as covered lines in the log."""

    def __init__(self, masked: MaskedStream, lines: LineLog) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._masked = masked
        self._lines = lines

    def feed(self, data: bytes) -> str:
        """Log the lines, and give the covered text back."""
        text = self._masked.feed(self._decode(data))
        self._lines.feed(text)
        return text

    def end(self) -> str:
        """The last line; nothing comes any more."""
        text = self._masked.feed(self._decode(b"", final=True)) + self._masked.rest()
        self._lines.feed(text)
        self._lines.end()
        return text


class Pipe(asyncio.Protocol):
    """One pipe of a command; `keep` gets what arrives twice: as it came, and as text with secrets covered."""

    def __init__(self, shown: Shown, keep: Callable[[bytes, str], None]) -> None:
        self._shown = shown
        self._keep = keep
        self._transport: asyncio.ReadTransport | None = None
        self._room = _PACE_BYTES
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is read from now on."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep it, log it, and pause where it comes too fast."""
        self._keep(data, self._shown.feed(data))
        self._room -= len(data)
        if self._room <= 0 and self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_PACE_SECONDS, self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Every writer has closed the pipe, or we have."""
        self._transport = None
        self._keep(b"", self._shown.end())
        self.closed.set()

    def _go_on(self) -> None:
        self._room = _PACE_BYTES
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class Whole:
    """Standard output up to `limit` bytes; one more, and `too_much` is called, once, and all further is dropped."""

    def __init__(self, limit: int, too_much: Callable[[], None]) -> None:
        self._limit = limit
        self._too_much = too_much
        self._kept = bytearray()
        self.overflowed = False

    def add(self, data: bytes, _covered: str) -> None:
        """Keep it, if there is room."""
        if self.overflowed:
            return
        if len(self._kept) + len(data) > self._limit:
            self.overflowed = True
            self._kept.clear()
            self._too_much()
            return
        self._kept += data

    def value(self) -> tuple[bytes, str]:
        """What was printed, and what stands before it: nothing."""
        return bytes(self._kept), ""


class End:
    """The end of standard output, however much there is."""

    overflowed = False

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._seen = 0

    def add(self, data: bytes, _covered: str) -> None:
        """Keep it, and forget what came long before."""
        self._seen += len(data)
        self._kept += data[-self._limit :]
        if len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit]

    def value(self) -> tuple[bytes, str]:
        """The last bytes from the beginning of a character on, and a line before them that tells how many are missing."""
        raw = bytes(self._kept[-self._limit :])
        start = 0
        if len(raw) < self._seen:
            while start < min(3, len(raw)) and raw[start] in _CONTINUATION:
                start += 1
        cut = self._seen - len(raw) + start
        return raw[start:], f"[{cut} bytes before this were cut]\n" if cut else ""


class ErrorTail:
    """The last characters of standard error, covered, for the error message."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, _data: bytes, covered: str) -> None:
        """Keep the end."""
        self._text = (self._text + covered[-ERROR_TAIL_CHARACTERS:])[-ERROR_TAIL_CHARACTERS:]

    def value(self) -> str:
        """What is kept."""
        return self._text.strip()
