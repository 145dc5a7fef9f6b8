"""What a command prints, held in bounded memory while it prints.

Protocols of the pipes, not tasks that read them: what arrives is counted where it arrives, and a command that prints a
hundred megabytes is killed at the first byte too many.
"""

import asyncio
import codecs
from collections import deque
from collections.abc import Callable

TAIL_BYTES = 4096
_LINE_BYTES = 2000
"""A longer line is logged in pieces."""
_LOGGED_BYTES = 1 << 20


class StandardOutput(asyncio.Protocol):
    """Keeps up to `limit` bytes; one more, and `too_much` is called, once, and all further is dropped."""

    def __init__(self, limit: int, too_much: Callable[[], None]) -> None:
        self._limit = limit
        self._too_much = too_much
        self._kept = bytearray()
        self.overflowed = False
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Keep it, if there is room."""
        if self.overflowed:
            return
        if len(self._kept) + len(data) > self._limit:
            self.overflowed = True
            self._kept.clear()
            self._too_much()
            return
        self._kept += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Every writer has closed the pipe."""
        self.closed.set()

    def value(self) -> bytes:
        """What was printed."""
        return bytes(self._kept)


class StandardError(asyncio.Protocol):
    """Logs line by line, and keeps the last `TAIL_BYTES` for the error message."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._line = ""
        self._left = _LOGGED_BYTES
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Keep the tail, log whole lines."""
        self._keep(data[-TAIL_BYTES:])
        if self._left <= 0:
            return
        *lines, self._line = (self._line + self._decode(data)).split("\n")
        while len(self._line) > _LINE_BYTES:
            lines.append(self._line[:_LINE_BYTES])
            self._line = self._line[_LINE_BYTES:]
        for line in lines:
            self._tell(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """The rest of the last line."""
        if self._line and self._left > 0:
            self._tell(self._line)
        self._line = ""
        self.closed.set()

    def tail(self) -> str:
        """The last `TAIL_BYTES`; a character cut at the front is left out."""
        return b"".join(self._tail)[-TAIL_BYTES:].decode("utf-8", "ignore").strip()

    def _keep(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())

    def _tell(self, line: str) -> None:
        if self._left <= 0 or not line.strip():
            return
        self._left -= len(line) + 1
        self._log(line.rstrip("\r"))
        if self._left <= 0:
            self._log(f"standard error has more than {_LOGGED_BYTES} characters; the rest is not logged")
