"""A pipe read on the loop: all that arrives, pauses, and one close; on uvloop too, while threads open files."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import IO

import pytest
import uvloop

from agenttask_steps.pipe_reader import PipeReader

Loop = Callable[[], asyncio.AbstractEventLoop]


class Told(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.lost = asyncio.Event()
        self.arrived = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def pipe() -> tuple[IO[bytes], int]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), writing


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    found: Loop = request.param
    return found


def test_all_that_arrives_is_told_and_then_the_end(loop: Loop) -> None:
    async def read() -> None:
        source, writing = pipe()
        told = Told()
        reader = PipeReader(asyncio.get_running_loop(), source, told)
        assert reader.is_reading()
        os.write(writing, b"one")
        await told.arrived.wait()
        reader.pause_reading()
        reader.pause_reading()
        told.arrived.clear()
        os.write(writing, b"two")
        await asyncio.sleep(0.02)
        assert (told.data, reader.is_reading()) == (b"one", False)
        reader.resume_reading()
        reader.resume_reading()
        await told.arrived.wait()
        os.close(writing)
        await told.lost.wait()
        assert (told.data, reader.is_closing(), source.closed) == (b"onetwo", True, True)
        reader.close()
        reader.resume_reading()
        assert not reader.is_reading()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(read(), 60))


def test_a_pipe_with_nothing_in_it_blocks_nobody(loop: Loop) -> None:
    async def read() -> None:
        source, writing = pipe()
        told = Told()
        reader = PipeReader(asyncio.get_running_loop(), source, told)
        reader._take()
        assert (told.data, reader.is_closing()) == (b"", False)
        reader.close()
        await told.lost.wait()
        os.close(writing)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(read(), 60))


def test_a_thread_that_opens_files_meanwhile_keeps_its_own(loop: Loop) -> None:
    failures: list[OSError] = []
    done = threading.Event()

    def open_files() -> None:
        while not done.is_set():
            try:
                with open("/proc/self/stat", "rb", buffering=0) as file:  # noqa: PTH123 - as directly as possible
                    file.read(10)
            except OSError as error:
                failures.append(error)

    async def open_and_close() -> None:
        for _ in range(3000):
            source, writing = pipe()
            reader = PipeReader(asyncio.get_running_loop(), source, Told())
            os.close(writing)
            await asyncio.sleep(0)
            reader.close()

    threads = [threading.Thread(target=open_files) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(asyncio.wait_for(open_and_close(), 120))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
