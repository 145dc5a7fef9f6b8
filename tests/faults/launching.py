"""How a controller's process is started: as a Deployment would, or by a fork of a process that has imported it already.

A run of F1 starts the controller two dozen times, and most of a start is Python's imports. The fork server (fork_server.py)
does those once; what it starts is a process of its own from there on, with its own pid, settings, log and end.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.faults.eventually import PATIENCE


class Process(Protocol):
    """What a supervisor needs of one, as asyncio's has it."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """How it ended; minus the signal, if one ended it."""

    def kill(self) -> None:
        """SIGKILL."""

    def send_signal(self, signal: int, /) -> None:
        """Any other."""

    async def wait(self) -> int:
        """Wait for its end."""


Launch = Callable[[Sequence[str], Mapping[str, str], Path], Awaitable[Process]]
"""Arguments, environment and log of a controller, to its process."""


def die_with_us() -> None:
    """Linux ends the child when this process ends, however it does."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


async def by_exec(arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Process:
    """A new Python."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agenttask.controller.main",
            *arguments,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_us,
        )


class _Forked:
    """A child of the fork server, by its connection."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid, self._reader, self._writer = pid, reader, writer
        self._ended = asyncio.create_task(self._end())

    @property
    def returncode(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, signal: int, /) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def _end(self) -> int:
        try:
            return int(await self._reader.readline())
        finally:
            self._writer.close()


class ForkServer:
    """One for all tests; it ends with us."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "fork.socket"
        self._log = folder / "fork-server.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTTASK_", "COVERAGE_", "KUBE", "OTEL_"))}
        path = os.pathsep.join(part for part in sys.path if part)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fork_server", str(self._socket)],
                env=environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_us,
            )

    def until_ready(self) -> None:
        """Wait until it has imported everything."""
        ends = time.monotonic() + PATIENCE
        while not self._socket.exists():
            assert self._process.poll() is None and time.monotonic() < ends, f"no fork server: {self._log.read_text()[-3000:]}"  # noqa: PT018
            time.sleep(0.02)

    async def launch(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Process:
        """A fork of it."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        request = {"arguments": list(arguments), "environ": dict(environ), "log": str(log)}
        writer.write(json.dumps(request).encode() + b"\n")
        return _Forked(int(await reader.readline()), reader, writer)

    def stop(self) -> None:
        """End it, and with it what it started."""
        self._process.kill()
        self._process.wait()
