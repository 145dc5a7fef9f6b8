"""One process of the pool, as the runner sees it: started with a clean environment, called, killed, reaped."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

from agenttask_threading import worker
from agenttask_threading.answer import Answer

_KEPT = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LOOK_SECONDS = 0.005
_BUFFER_BYTES = 1 << 20


class ChildDied(Exception):
    """The process ended before it answered."""


class Child:
    """A worker process; `call` is for one caller at a time."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, environ: Mapping[str, str]) -> "Child":
        """Start one.

        From the loop's own thread: the kernel ends the child with the thread that started it (PR_SET_PDEATHSIG).
        """
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own script; two milliseconds
                    [sys.executable, "-P", worker.__file__, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # that of `agenttask run` is the task's output
                    env=clean(environ),
                    pass_fds=[theirs.fileno()],
                )
            undo.callback(process.wait)
            undo.callback(process.kill)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_BUFFER_BYTES)
            undo.pop_all()
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def call(self, packed: bytes) -> Answer:
        """What came of the function.

        Raises:
            ChildDied: there is no answer.
        """
        try:
            self._writer.write(worker.LENGTH.pack(len(packed)))
            self._writer.write(packed)
            await self._writer.drain()
            (length,) = worker.LENGTH.unpack(await self._reader.readexactly(worker.LENGTH.size))
            return Answer(await self._reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ChildDied from error

    def kill(self) -> None:
        """End it now."""
        self._writer.close()
        if self._process.poll() is None:
            self._process.kill()

    def reaped(self) -> bool:
        """Whether it has ended and nothing of it is left."""
        return self._process.poll() is not None

    async def ended(self) -> str:
        """Kill it, wait for its end, and tell how it ended."""
        self._writer.close()
        for _ in range(20):  # one that died by itself is to be told as such
            if self.reaped():
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self.kill()
        while not self.reaped():  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(_LOOK_SECONDS)
        code = self._process.returncode
        return f"exited {code}" if code >= 0 else f"was killed by {_signal_name(-code)}"


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker gets of the environment: where to find modules, and no more; one thread for libraries of numbers."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)  # noqa: PTH100 - a path string, not resolved
    kept = {name: environ[name] for name in _KEPT if name in environ}
    return {**kept, "PYTHONPATH": path, **dict.fromkeys(_ONE_THREAD, "1")}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
