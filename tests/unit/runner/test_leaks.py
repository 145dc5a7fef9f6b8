"""The leak report: what was opened and not closed is told with where it was made, and nothing else is."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import aiohttp
import pytest

from agenttask.runner.debug import leak_report, traced_memory
from agenttask.runner.leaks import Thing, left_open, lines


def test_nothing_left_is_told_too() -> None:
    thing = Thing(kind="file", what="/x (descriptor 3)")
    assert lines(left_open({("file", 3): thing}, {("file", 3): thing})) == ["nothing was left open"]
    assert lines(left_open({}, {("file", 3): thing})) == ["file left open: /x (descriptor 3)"]


async def test_each_kind_is_found_with_where_it_was_made(tmp_path: Path) -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_debug(True)
    gone = asyncio.Event()

    def log(about: str, line: str) -> None:
        if about == "leaks":
            told.append(line)

    with traced_memory(log):
        async with leak_report(log):
            task = asyncio.create_task(gone.wait(), name="forgotten")
            session = aiohttp.ClientSession()
            file = (tmp_path / "open.txt").open("w")
            ended = threading.Event()
            thread = threading.Thread(target=ended.wait, name="lost-thread")
            thread.start()
            child = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220
            async with asyncio.timeout(60):
                while not Path(f"/proc/{child.pid}/cmdline").read_bytes():  # noqa: ASYNC110, ASYNC240 - none while it becomes `sleep`
                    await asyncio.sleep(0.01)
    try:
        by_kind = {line.split()[0]: line for line in told}
        for kind, what in (
            ("task", "forgotten (Event.wait)"),
            ("session", "ClientSession"),
            ("file", f"{tmp_path}/open.txt (descriptor {file.fileno()})"),
            ("thread", "lost-thread"),
            ("process", f"{child.pid} sleep 600"),
        ):
            assert any(line.startswith(f"{kind} left open: {what}") for line in told), (kind, told)
            assert kind == "process" or {"thread": "now at /"}.get(kind, f"{__file__}:") in by_kind[kind], by_kind[kind]
    finally:
        child.kill()
        child.wait()
        ended.set()
        thread.join()
        file.close()
        await session.close()
        gone.set()
        await task


async def test_what_was_there_before_or_is_closed_again_is_not_told(tmp_path: Path) -> None:
    told: list[str] = []
    before = asyncio.create_task(asyncio.sleep(600))
    async with leak_report(lambda about, line: told.append(line)):
        with (tmp_path / "x").open("w"):
            pass
        async with aiohttp.ClientSession():
            pass
        await asyncio.create_task(asyncio.sleep(0))
        await asyncio.to_thread(os.getpid)
    before.cancel()
    assert told == ["nothing was left open"]


async def test_a_run_that_fails_has_its_report_too() -> None:
    told: list[str] = []
    with pytest.raises(RuntimeError, match="x"):
        async with leak_report(lambda about, line: told.append(line)):
            raise RuntimeError("x")
    assert told == ["nothing was left open"]


def test_the_lines_that_hold_most_memory_are_told() -> None:
    told: list[str] = []
    with traced_memory(lambda about, line: told.append(line)):
        held = [bytes(1000) for _ in range(1000)]
    assert "KiB of Python objects, at most" in told[0]
    assert __file__ in told[1]
    assert len(told) <= 11
    assert len(held) == 1000
