"""What an installation for tests shares: a place outside of the checkout, one installation at a time, and a sign of life."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_LAST_LINES = 10


def cache_folder() -> Path:
    """Where what was installed is kept, each under a name made from its content."""
    return Path(os.environ.get("AGENTTASK_CACHE") or Path.home() / ".cache" / "agenttask")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One installation at a time, also among test runs."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_telling(
    command: Sequence[str], say: Callable[[str], None], *, every_seconds: float, environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run it, repeating its newest line now and then; its exit status and its last lines."""
    lines: list[str] = []
    said = time.monotonic()
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if time.monotonic() - said > every_seconds:
                said = time.monotonic()
                say(f"  {len(lines)}: {lines[-1][:100]}")
    return process.returncode, "\n".join(lines[-_LAST_LINES:])
