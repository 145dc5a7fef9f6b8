"""What /proc tells of a process, and of the machine: CPU seconds, resident memory, load average."""

import os
from pathlib import Path
from typing import Final, NamedTuple

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
MIB: Final = 1 << 20


class Usage(NamedTuple):
    """CPU seconds since the process began, all its threads, and resident MiB now."""

    cpu: float
    rss: float


def parse_stat(text: str, *, ticks: int = TICKS, page: int = PAGE) -> Usage:
    """One line of /proc/<pid>/stat; the program's name may hold spaces and parentheses."""
    fields = text.rsplit(")", 1)[1].split()
    return Usage(cpu=(int(fields[11]) + int(fields[12])) / ticks, rss=int(fields[21]) * page / MIB)


def usage(pid: int) -> Usage:
    """Of one process that lives.

    Raises:
        FileNotFoundError: it has ended.
    """
    return parse_stat(Path(f"/proc/{pid}/stat").read_text())


def usages(pids: dict[str, int]) -> dict[str, Usage]:
    """Of several, by their names."""
    return {name: usage(pid) for name, pid in pids.items()}


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


def processor(text: str | None = None) -> str:
    """The processor's name in /proc/cpuinfo."""
    lines = (Path("/proc/cpuinfo").read_text() if text is None else text).splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def memory_gib(text: str | None = None) -> float:
    """The machine's memory, by /proc/meminfo."""
    lines = (Path("/proc/meminfo").read_text() if text is None else text).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemTotal")) / (1 << 20)
