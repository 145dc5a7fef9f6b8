"""A command in its own session and process group: started, waited for, and ended with all that it left in the group.

Not `asyncio.create_subprocess_exec`: that reaps the leader the moment it ends, and its `wait` also waits for pipes that
a background child holds open. Here the ended leader stays a zombie until its group has been ended, so the group's number
cannot belong to anybody else when it is signalled. A process that makes its own session has left the group, and is found
by its mark (strays.py).
"""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from msgspec import Struct

from agenttask.api.errors import StepFailed
from agenttask.domain.machine_limits import explained
from agenttask_steps.pipe_reader import PipeReader
from agenttask_steps.strays import MARK, Strays

KILL_AFTER_SECONDS = 5.0
"""Between TERM and KILL."""
_KILLED_WITHIN_SECONDS = 5.0
"""A process in uninterruptible sleep outlives KILL for a while; the step does not wait for it for ever."""
_LOOK_SECONDS = 0.01
_LOOK_SLOWLY_SECONDS = 0.1


class Invocation(Struct, frozen=True, kw_only=True):
    """What is run: a checked argv, its environment, its folder, and what it reads."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    stdin: bytes
    mark: str
    """What tells its processes from all others; random."""


class ProcessGroup:
    """A command that runs; `end` and `close` are always to be called."""

    def __init__(self, invocation: Invocation) -> None:
        """Start it.

        Standard input is a file in memory, so that a command that reads nothing of it blocks nobody.

        Raises:
            StepFailed: the operating system refuses.
        """
        self._loop = asyncio.get_running_loop()
        self._pipes: list[PipeReader] = []
        self._status: int | None = None
        self._hurry = False
        self._ended = False
        self._strays = Strays(invocation.mark)
        with contextlib.ExitStack() as stack:
            stdin: IO[bytes] | int = subprocess.DEVNULL
            try:
                if invocation.stdin:
                    stdin = stack.enter_context(os.fdopen(os.memfd_create("stdin"), "r+b"))
                    stdin.write(invocation.stdin)
                    stdin.seek(0)
                self._process = subprocess.Popen(  # noqa: S603 - the argv is the user's own, and no shell reads it
                    invocation.argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**invocation.environment, MARK: invocation.mark},
                    cwd=invocation.folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise StepFailed(f"command {invocation.argv[0]!r} cannot be started: {explained(error)}") from error
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(self._process.pid)  # open to the end: strays.py spares who is waited for
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):  # else an old or sandboxed kernel, which has none
                self._process.kill()
                self._process.wait()
                self.close()
                raise StepFailed(f"command {invocation.argv[0]!r} cannot be watched: {explained(error)}") from error

    async def connect(self, stdout: asyncio.Protocol, stderr: asyncio.Protocol) -> None:
        """Give what it prints to two protocols.

        Raises:
            StepFailed: the pipes cannot be watched.
        """
        for pipe, protocol in ((self._process.stdout, stdout), (self._process.stderr, stderr)):
            assert pipe is not None, "both are pipes"
            try:
                self._pipes.append(PipeReader(self._loop, pipe, protocol))
            except OSError as error:
                raise StepFailed(f"what the command prints cannot be read: {explained(error)}") from error

    def close(self) -> None:
        """Close the pipes, whoever still holds the other ends."""
        for transport in self._pipes:
            transport.close()
        for pipe in (self._process.stdout, self._process.stderr)[len(self._pipes) :]:  # those that no transport has
            if pipe is not None:
                pipe.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def exited(self) -> int:
        """Wait until the command itself ends; its status as `subprocess` tells it (negative: a signal). It stays unreaped."""
        if self._descriptor is None:
            while (status := self._peek()) is None:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(_LOOK_SLOWLY_SECONDS)
            return status
        ended = asyncio.Event()
        self._loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            self._loop.remove_reader(self._descriptor)
        status = self._peek()
        assert status is not None, "the pidfd is readable, so the process has ended"
        return status

    def kill(self) -> None:
        """Kill the whole group now; `end` is still to be called."""
        self._hurry = True
        self._signal(signal.SIGKILL)

    async def end(self) -> None:
        """TERM to the group and to what left it, KILL after `KILL_AFTER_SECONDS`, and reap; returns when nothing is left.

        A cancellation meanwhile turns TERM into KILL, and is raised when all is done.
        """
        ending = asyncio.ensure_future(self._end())
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as error:
                cancelled = error
                self.kill()
        ending.result()
        if cancelled is not None:
            raise cancelled

    async def _end(self) -> None:
        self._signal(signal.SIGKILL if self._hurry else signal.SIGTERM)
        give_up = None if not self._hurry else self._loop.time() + _KILLED_WITHIN_SECONDS
        kill_at = self._loop.time() + KILL_AFTER_SECONDS
        pause = _LOOK_SECONDS
        while not self._reaped():
            now = self._loop.time()
            if give_up is None and (self._hurry or now >= kill_at):
                self._signal(signal.SIGKILL)
                give_up = now + _KILLED_WITHIN_SECONDS
            if give_up is not None and now >= give_up:
                break
            await asyncio.sleep(pause)
            pause = min(_LOOK_SLOWLY_SECONDS, pause * 2)
        self._ended = True
        latest = max(kill_at, self._loop.time()) + _KILLED_WITHIN_SECONDS
        await self._strays.end(hurry=lambda: self._hurry, kill_at=kill_at, give_up_at=latest)

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended:  # the number may belong to others by now
            with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or all that is left runs as somebody else
                os.killpg(self._process.pid, number)

    def _peek(self) -> int | None:
        """The leader's status without reaping it; None while it runs."""
        if self._status is None:
            found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                self._status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self._status

    def _reaped(self) -> bool:
        """Reap what has ended, and tell whether nothing of the group lives. Orphans of the leader are ours where we adopt them."""
        group = self._process.pid
        if self._process.returncode is None and self._peek() is not None:
            os.waitpid(group, 0)
            self._process.returncode = self._status  # Popen would wait for it again
        if self._process.returncode is None:
            return False
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
            return False  # an adopted one still runs
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # what is left runs as somebody else
            return False
        return not _lives(group)


def _lives(group: int, proc: Path = Path("/proc")) -> bool:
    """Whether the group has a member that is no zombie: where orphans go to init, that may take its time to reap them."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, _, members_of = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(members_of) == group and state not in "ZX":
                    return True
    return False
