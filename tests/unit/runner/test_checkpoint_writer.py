"""When a checkpoint is saved: together with what ends within a second, at the end, and never twice at once."""

import asyncio
import contextlib
from collections.abc import Callable

from tests.fakes.checkpoint_memory import WatchedStore

from agenttask.api.checkpoint import decode
from agenttask.runner.checkpoint_shelf import Head, Shelf
from agenttask.runner.checkpoint_writer import Change, CheckpointWriter, Pace

HEAD = Head(version=1, task="u-1", spec="0" * 64, runner="0.1.0", attempt=1)


def writer(store: WatchedStore, pause: float, log: list[str] | None = None) -> CheckpointWriter:
    lines: list[str] = [] if log is None else log
    shelf = Shelf(HEAD, [], log=lambda about, line: None)
    return CheckpointWriter(shelf, store, log=lambda about, line: lines.append(line), pace=Pace(pause=pause))


def skipped(name: str) -> Change:
    return lambda shelf: shelf.step_skipped(name, "x")


def names(raw: bytes) -> list[str]:
    return [step.name for step in decode(raw).steps]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is the code under test, which has no event for it
            await asyncio.sleep(0.005)


async def test_what_ends_within_the_pause_is_saved_once() -> None:
    store = WatchedStore()
    found = writer(store, 0.05)
    for name in "abc":
        found.add(skipped(name))
        await asyncio.sleep(0)
    await until(lambda: store.saved)
    found.add(skipped("d"))
    await until(lambda: len(store.saved) == 2)
    await found.aclose()
    assert [names(raw) for raw in store.saved] == [["a", "b", "c"], ["a", "b", "c", "d"]]


async def test_the_end_saves_what_waits_and_nothing_twice() -> None:
    store = WatchedStore()
    found = writer(store, 600)
    await found.aclose()
    assert store.saved == []
    found.add(skipped("a"))
    await asyncio.sleep(0)
    await found.aclose()
    await found.aclose()
    assert [names(raw) for raw in store.saved] == [["a"]]


async def test_in_a_hurry_nothing_waits() -> None:
    store = WatchedStore()
    found = writer(store, 600)
    found.add(skipped("a"))
    await asyncio.sleep(0)
    found.hurry()
    await until(lambda: store.saved)
    found.add(skipped("b"))
    await until(lambda: len(store.saved) == 2)
    await found.aclose()


async def test_a_save_that_was_cancelled_ends_before_the_next_begins() -> None:
    store = WatchedStore()
    store.gate = asyncio.Event()
    found = writer(store, 0)
    found.add(skipped("a"))
    await until(lambda: store.busy)
    closing = asyncio.create_task(found.aclose())
    await asyncio.sleep(0.01)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    found.add(skipped("b"))
    store.gate.set()
    await found.aclose()
    assert names(store.saved[-1]) == ["a", "b"]


async def test_a_store_that_fails_is_told_once_and_tried_again() -> None:
    store = WatchedStore()
    log: list[str] = []
    store.broken = "no space"
    found = writer(store, 0, log)
    found.add(skipped("a"))
    await until(lambda: log)
    await found.flush()
    assert log == ["not saved: no space"]
    store.broken = None
    await found.aclose()
    assert names(store.saved[0]) == ["a"]
