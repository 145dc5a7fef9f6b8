"""How much processor and memory this container has: the cgroup's limits, where the machine's own numbers mislead.

Both versions are read: v2 has `cpu.max` and `memory.max` at the root of a container's cgroup namespace, v1 has
`cpu.cfs_quota_us` and `memory.limit_in_bytes` below a folder a controller. How much is used is told the same way.
"""

import math
import os
from pathlib import Path

_V1_UNLIMITED = 1 << 60
"""v1 says "no limit" as the largest multiple of a page, near 2^63."""

ROOT = Path("/sys/fs/cgroup")


def cpu_count(root: Path = ROOT, *, visible: int | None = None) -> int:
    """Whole processors that this process may use: the quota rounded up, at most what the scheduler lets us on, at least 1."""
    return max(1, math.ceil(_cpus(root, visible)))


def full_cpu_count(root: Path = ROOT, *, visible: int | None = None) -> int:
    """The same with the quota rounded down: so many threads can run all the time without using up the quota."""
    return max(1, math.floor(_cpus(root, visible)))


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the container may use; None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        words = _words(root / name)
        if words and words[0].isdigit():
            limit = int(words[0])
            return limit if limit < _V1_UNLIMITED else None
    return None


def has_quota(root: Path = ROOT) -> bool:
    """Whether processor time is limited, so that the cgroup is this container's own and not the machine's."""
    return _quota(root) is not None


def cpu_seconds(root: Path = ROOT) -> float | None:
    """Processor time that the container has used; None where it is not told."""
    words = _words(root / "cpu.stat")
    if "usage_usec" in words[:-1]:
        return int(words[words.index("usage_usec") + 1]) / 1e6
    words = _words(root / "cpuacct/cpuacct.usage")
    return int(words[0]) / 1e9 if words else None


def memory_used(root: Path = ROOT) -> int | None:
    """Bytes that the container cannot give back, as the kubelet counts them: without file pages that were not used lately."""
    for usage, stat, inactive in (
        ("memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        words = _words(root / usage)
        if words:
            details = _words(root / stat)
            free = int(details[details.index(inactive) + 1]) if inactive in details[:-1] else 0
            return max(0, int(words[0]) - free)
    return None


def _cpus(root: Path, visible: int | None) -> float:
    allowed = visible if visible is not None else len(os.sched_getaffinity(0))
    quota = _quota(root)
    return allowed if quota is None else min(allowed, quota)


def _quota(root: Path) -> float | None:
    words = _words(root / "cpu.max")
    if not words:
        words = _words(root / "cpu/cpu.cfs_quota_us") + _words(root / "cpu/cpu.cfs_period_us")
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max 100000", or nothing to read
        return None
    return quota / period if quota > 0 and period > 0 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
