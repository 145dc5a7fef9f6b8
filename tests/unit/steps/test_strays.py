"""Daemons are found by their mark, signalled, and reaped where they are adopted."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttask_steps.strays import MARK, Strays

DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
between = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == between:
    time.sleep(0.001)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(float(sys.argv[2]))
"""
_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def adopting() -> Iterator[None]:
    """Orphans come to this process, as to the runner."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def daemon(path: Path, mark: str, seconds: float = 600) -> int:
    """The number of a process that has left everything but its environment."""
    subprocess.run([sys.executable, "-c", DAEMON, str(path), str(seconds)], env={**os.environ, MARK: mark}, check=True)
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    return int(path.read_text())


def started(*command: str, **options: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, **options)


def lives(pid: int) -> bool:
    """It sleeps, or is about to where others have the processor."""
    return state(pid) not in ("gone", "Z")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


async def end(strays: Strays, *, kill_after: float, give_up_after: float = 60) -> None:
    now = asyncio.get_running_loop().time()
    await strays.end(hurry=lambda: False, kill_at=now + kill_after, give_up_at=now + give_up_after)


async def test_one_that_ignores_term_is_killed_and_reaped(tmp_path: Path, adopting: None):
    mine, other = daemon(tmp_path / "mine", "one"), daemon(tmp_path / "other", "two")
    strays = Strays("one")
    assert strays.found() == [mine]
    await end(strays, kill_after=0.1)
    assert (state(mine), lives(other)) == ("gone", True)
    await end(Strays("two"), kill_after=0)
    assert state(other) == "gone"


async def test_it_gives_up_in_time(tmp_path: Path, adopting: None):
    pid = daemon(tmp_path / "pid", "one")
    strays = Strays("one")
    await end(strays, kill_after=600, give_up_after=0.1)
    assert lives(pid)
    await end(strays, kill_after=0)
    assert state(pid) == "gone"


async def test_zombies_that_were_adopted_are_reaped_and_those_that_are_waited_for_left(tmp_path: Path, adopting: None):
    orphan = daemon(tmp_path / "pid", "one", 0)
    ours, leader = started("true"), started("true", start_new_session=True)
    waited_for = os.pidfd_open(leader.pid)
    while {state(pid) for pid in (orphan, ours.pid, leader.pid)} != {"Z"}:  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(0.01)
    await end(Strays("another"), kill_after=600)
    assert (state(orphan), state(ours.pid), state(leader.pid)) == ("gone", "Z", "Z")
    os.close(waited_for)
    assert (ours.wait(), leader.wait()) == (0, 0)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222 - does not wait


def test_a_number_that_belongs_to_others_by_now_is_not_signalled():
    strays = Strays("one")
    with subprocess.Popen(["sleep", "600"]) as other:
        strays._signal(other.pid, signal.SIGKILL)
        assert other.poll() is None
        other.kill()
    strays._signal(other.pid, signal.SIGKILL)
    assert other.returncode == -signal.SIGKILL
