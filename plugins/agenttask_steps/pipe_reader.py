"""Reads a pipe on the event loop, and closes it exactly once.

Not `loop.connect_read_pipe`: uvloop closes the descriptor and then the file object on top of it (uvloop 0.23,
handles/handle.pyx, `_close`). Between the two a thread may have got the same number for a file of its own, which is
then closed under its hands.
"""

import asyncio
import os
from typing import IO

_CHUNK_BYTES = 256 * 1024


class PipeReader(asyncio.ReadTransport):
    """A transport over a pipe's reading end, which it owns from now on.

    Raises:
        OSError: the loop cannot watch it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: IO[bytes], protocol: asyncio.Protocol) -> None:
        super().__init__({"pipe": pipe})
        self._loop = loop
        self._pipe = pipe
        self._protocol = protocol
        self._closing = False
        self._reading = False
        os.set_blocking(pipe.fileno(), False)
        self.resume_reading()
        protocol.connection_made(self)

    def is_closing(self) -> bool:
        """Whether it is closed: nothing arrives any more."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether what arrives is taken."""
        return self._reading

    def pause_reading(self) -> None:
        """Leave what arrives in the pipe; whoever writes waits when it is full."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._pipe.fileno())

    def resume_reading(self) -> None:
        """Take what arrives."""
        if not self._reading and not self._closing:
            self._loop.add_reader(self._pipe.fileno(), self._take)
            self._reading = True

    def close(self) -> None:
        """Close the pipe; the protocol is told in a moment."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            self._pipe.close()
            self._loop.call_soon(self._protocol.connection_lost, None)

    def _take(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if data:
            self._protocol.data_received(data)
        else:
            self.close()
