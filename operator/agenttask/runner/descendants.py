"""No process of a task outlives its runner, not even one that left its process group.

The runner adopts orphans (`credentials.adopt_orphans`), so everything that a task started is below it in the process
tree. Step kinds end their own process groups; this is the net below them, drawn in once when the runner ends.
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

_ROUNDS = 20
"""A killed process's children come to us, and show only in the next look; deeper trees than this are attacks."""


def kill_descendants(pid: int, *, proc: Path = Path("/proc")) -> int:
    """Kill everything below `pid` (this process), reap it, and tell how many there were."""
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = descendants(pid, proc=proc)
        if not found:
            break
        for each in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        killed.update(found)
        for each in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(each, 0)
    return len(killed)


def descendants(pid: int, *, proc: Path = Path("/proc")) -> Sequence[int]:
    """The living processes below `pid`, children before grandchildren; zombies of ours count, as they are to be reaped."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = (entry / "stat").read_text()
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in sorted(children.get(parent, []))]
        found += level
    return found
