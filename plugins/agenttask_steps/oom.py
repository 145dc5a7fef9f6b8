"""How often the kernel has killed a process of this container for its memory; both versions of cgroups count it."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_FILES = ("memory.events", "memory/memory.oom_control")


def oom_kills(root: Path = ROOT) -> int:
    """The count so far; 0 where it cannot be read."""
    for name in _FILES:
        try:
            text = (root / name).read_text()
        except OSError:
            continue
        for line in text.splitlines():
            word, _, count = line.partition(" ")
            if word == "oom_kill" and count.strip().isdigit():
                return int(count)
    return 0
