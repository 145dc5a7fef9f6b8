"""A stream that never makes its writer wait: lines go through a bounded queue to one thread, in their order.

Standard output of a container is a pipe. When its reader stalls (a full disk under the node's log, a rotation), a write
blocks, and on the event loop that would stop every step. Here it costs lines at most, and how many is told.
"""

import atexit
import contextlib
import queue
import threading
from typing import Final, Protocol, TextIO

MAX_LINES: Final = 10_000
"""Some 20 MB of the longest lines."""
CLOSE_SECONDS: Final = 5.0
"""How long the end of the process waits for the reader."""


class LineStream(Protocol):
    """What the log needs of its stream."""

    def write(self, text: str, /) -> object:
        """Take whole lines."""
        ...

    def flush(self) -> object:
        """Have them out as soon as possible."""
        ...


class QueuedStream:
    """Writes to `stream` from a thread; `write` may be called from any thread."""

    def __init__(self, stream: TextIO, *, max_lines: int = MAX_LINES) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines + 1)  # one more for the end
        self._max_lines = max_lines
        self._dropped = 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a crash has said what it said

    def write(self, text: str, /) -> int:
        """Queue it, or count it as dropped where the queue is full; after the end it goes to the stream at once."""
        if self._closed:
            self._put_out(text)
        elif self._lines.qsize() >= self._max_lines:
            with self._lock:
                self._dropped += 1
        else:
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(text)
        return len(text)

    def flush(self) -> None:
        """The thread flushes after each batch."""

    def close(self, *, seconds: float = CLOSE_SECONDS) -> bool:
        """Write what is queued, at most `seconds` long; whether all of it is out."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        ended = False
        while not ended:
            batch = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < self._max_lines:
                    batch.append(self._lines.get_nowait())
            ended = batch[-1] is None
            self._put_out("".join(line for line in batch if line is not None) + self._told())

    def _told(self) -> str:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return f"log: {dropped} lines are lost: whoever reads this log was too slow\n" if dropped else ""

    def _put_out(self, text: str) -> None:
        """A stream that is gone (a closed pipe) ends no task."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
