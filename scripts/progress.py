"""Signs of life from long commands: their output goes to a file, its latest line to the terminal now and then."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

QUIET_SECONDS = 15
"""Without a terminal (CI) there is one line in this time; on a terminal one line that is written over."""
TAIL_LINES = 40


class CommandFailed(Exception):
    """A command's exit status, with the end of its output."""


def last_line(log: Path) -> str:
    """The latest line of a growing file that says something."""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def run_showing_life(label: str, command: Sequence[str], log: Path) -> float:
    """Run a command to its end; seconds it took.

    Raises:
        CommandFailed: it exited other than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = shown = time.monotonic()
    terminal = sys.stderr.isatty()
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            time.sleep(0.5)
            now = time.monotonic()
            if now - shown >= (1 if terminal else QUIET_SECONDS):
                shown = now
                line = f"    {label}: {now - start:4.0f} s  {last_line(log)}"[:118]
                print(f"\r{line}\033[K" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise CommandFailed(f"{label} failed with exit status {process.returncode}; the end of {log}:\n{tail}")
    return time.monotonic() - start
