"""A background task that its owner ends."""

import asyncio

import pytest

from agenttask.runner.cancelling import cancel


async def test_it_has_ended_afterwards_and_one_that_never_began_is_none() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel(task)
    await cancel(None)
    assert (ended, task.cancelled()) == ([True], True)


async def test_what_it_failed_with_is_told() -> None:
    async def work() -> None:
        raise ValueError("before")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="before"):
        await cancel(task)


async def test_whoever_is_cancelled_while_it_waits_is_cancelled() -> None:
    """`suppress(CancelledError)` around the task took one for the other, and the caller went on."""
    go = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await go.wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cancel(task))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=30)
    go.set()
    await asyncio.wait({task}, timeout=30)
    assert (waiting.cancelled(), task.cancelled()) == (True, True)
