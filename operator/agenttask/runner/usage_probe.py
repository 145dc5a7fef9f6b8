"""What this container uses right now: one blocking look of about a millisecond.

Where the cgroup has a limit its own numbers count, commands of the task included. Without one (a laptop, a pod without
limits) the cgroup may be the whole machine's, and then this process and its descendants are summed up.
"""

import contextlib
from pathlib import Path

import psutil
from msgspec import Struct

from agenttask.runner.cgroup import ROOT, cpu_seconds, has_quota, memory_limit, memory_used
from agenttask.runner.gpu_memory import GpuMemory, GpuProbe, unknown


class Reading(Struct, frozen=True, kw_only=True):
    """Numbers of one moment; `cpu_seconds` counts up from some start."""

    cpu_seconds: float
    memory_bytes: int
    memory_total: int
    gpu: GpuMemory | None
    open_files: int
    threads: int
    processes: int


class UsageProbe:
    """Looks at this process and its cgroup."""

    def __init__(self, *, gpu: GpuProbe = unknown, root: Path = ROOT) -> None:
        self._gpu = gpu
        self._root = root
        self._process = psutil.Process()
        limit = memory_limit(root)
        self._memory_total = psutil.virtual_memory().total if limit is None else limit
        self._cgroup_memory = limit is not None and memory_used(root) is not None
        self._cgroup_cpu = has_quota(root) and cpu_seconds(root) is not None

    def __call__(self) -> Reading | None:
        """One look; None where it cannot be taken, as when no file can be opened any more."""
        try:
            return self._look()
        except (OSError, psutil.Error):
            return None

    def _look(self) -> Reading:
        children = self._process.children(recursive=True)
        with self._process.oneshot():
            seconds = cpu_seconds(self._root) if self._cgroup_cpu else None
            memory = memory_used(self._root) if self._cgroup_memory else None
            return Reading(
                cpu_seconds=_cpu_seconds([self._process, *children]) if seconds is None else seconds,
                memory_bytes=_memory_bytes([self._process, *children]) if memory is None else memory,
                memory_total=self._memory_total,
                gpu=self._gpu(),
                open_files=self._process.num_fds(),
                threads=self._process.num_threads(),
                processes=len(children),
            )


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    """Their own time, and that of children that have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _memory_bytes(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total
