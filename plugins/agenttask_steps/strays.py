"""Processes that left a command's group: daemons that made a session of their own are known by a mark in their environment.

Every run of `exec` puts its own random mark there, and what a process starts inherits it; so the step ends its own
daemons, and never those of a step beside it. One that wiped its environment as well is found when the runner ends, which
adopts all orphans (runner/descendants.py).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

MARK: str = "AGENTTASK_STEP_RUN"
"""The variable."""
_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.2


class Strays:
    """The processes with one mark."""

    def __init__(self, mark: str, proc: Path = Path("/proc")) -> None:
        self._needle = f"{MARK}={mark}".encode()
        self._proc = proc
        self._told: set[int] = set()
        self._zombies: set[int] = set()

    async def end(self, *, hurry: Callable[[], bool], kill_at: float, give_up_at: float) -> None:
        """TERM to each, KILL to those that live at `kill_at` or when `hurry()`; times are the loop's."""
        now = asyncio.get_running_loop().time
        pause = _PAUSE_SECONDS
        while (found := await asyncio.to_thread(self.found)) or self._zombies:
            kill = hurry() or now() >= kill_at
            for pid in found:
                if kill or pid not in self._told:
                    self._signal(pid, signal.SIGKILL if kill else signal.SIGTERM)
            self._told.update(found)
            if now() >= give_up_at:
                break
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        self._reap()

    def found(self) -> list[int]:
        """Those that live. Zombies that were adopted are reaped on the way."""
        self._reap()
        zombies = set()
        found = []
        for name in os.listdir(self._proc):  # noqa: PTH208 - twice as fast, and this is a loop over all processes
            if name.isdigit():
                try:
                    environment = (self._proc / name / "environ").read_bytes()
                except ProcessLookupError:  # what newer kernels say of a zombie
                    environment = b""
                except OSError:  # gone, or somebody else's
                    continue
                if self._needle in environment:
                    found.append(int(name))
                elif not environment and self._is_our_zombie(name):
                    zombies.add(int(name))
        self._zombies = zombies and self._adopted(zombies)
        return found

    def _signal(self, pid: int, number: signal.Signals) -> None:
        """Signal it, if the number still belongs to one of ours."""
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if self._needle in (self._proc / str(pid) / "environ").read_bytes():
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)

    def _reap(self) -> None:
        """Orphans are ours to reap where we adopt them; elsewhere init does it."""
        for pid in tuple(self._told):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._told.discard(pid)  # the number is free for others

    def _is_our_zombie(self, name: str) -> bool:
        """Whether it is an ended child in a session that is not ours: every command leads one, and so do the halves of a daemon."""
        with contextlib.suppress(OSError, ValueError):
            state, parent, _, session = (self._proc / name / "stat").read_text().rpartition(")")[2].split()[:4]
            return state == "Z" and int(parent) == os.getpid() and int(session) != os.getsid(0)
        return False

    def _adopted(self, zombies: set[int]) -> set[int]:
        """Reap those that are for the second time there and that nobody here has a descriptor of; the new ones are given back."""
        waited_for: set[int] = set()
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:  # a kernel without them tells nobody who is waited for
            return set()
        for entry in (self._proc / "self" / "fdinfo").iterdir():
            with contextlib.suppress(OSError):
                waited_for.update(int(line[4:]) for line in entry.read_text().splitlines() if line.startswith("Pid:"))
        free = zombies - waited_for
        for pid in free & self._zombies:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return free - self._zombies
