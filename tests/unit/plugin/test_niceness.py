"""Threads that work stand behind the loop's for the processor."""

import os
import sys
import threading

import pytest

from agenttask.plugin import niceness
from agenttask.plugin.threading import ThreadingLimits, WorkKind
from agenttask_threading.threads import AsyncThreads


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a nice value is the process's")
async def test_work_on_threads_is_nicer_than_the_loop() -> None:
    threads = AsyncThreads(ThreadingLimits(cpus=2))
    before = nice()

    assert await threads.run(WorkKind.BLOCKING_IO, nice) == min(19, before + niceness.NICER)

    assert nice() == before
    await threads.drain(1.0)


def test_a_platform_that_knows_no_such_threads_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(3, "No such process")

    monkeypatch.setattr(os, "setpriority", refuse)

    niceness.after_the_loop()
