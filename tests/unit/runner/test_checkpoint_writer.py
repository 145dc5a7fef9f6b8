"""When a checkpoint is saved: together with what ends within a second, at the end, and never twice at once."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from tests.fakes.checkpoint_memory import WatchedStore
from tests.fakes.virtual_time import loop_time, run_virtual

from agenttask.api.checkpoint import decode
from agenttask.api.steps import Step
from agenttask.plugin.step import StepOutput
from agenttask.runner.checkpoint_shelf import Head, Shelf
from agenttask.runner.checkpoint_store import CheckpointTooLarge
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


async def closing_amid_a_save(store: WatchedStore, gate: asyncio.Event, seconds: float) -> tuple[CheckpointWriter, asyncio.Task[None]]:
    """A writer whose save of `a` waits for the gate, and its end, which was cancelled so many seconds after it began."""
    store.gate = gate
    found = writer(store, 0)
    found.add(skipped("a"))
    await until(lambda: store.busy)
    closing = asyncio.create_task(found.aclose())
    await asyncio.sleep(seconds)
    closing.cancel()
    await asyncio.wait({closing}, timeout=30)
    return found, closing


async def test_a_save_that_was_cancelled_ends_before_the_next_begins() -> None:
    store, gate = WatchedStore(), asyncio.Event()
    found, closing = await closing_amid_a_save(store, gate, seconds=0.01)
    assert closing.cancelled()
    found.add(skipped("b"))
    gate.set()
    await found.aclose()
    assert names(store.saved[-1]) == ["a", "b"]


async def test_who_is_cancelled_while_the_writer_ends_is_cancelled() -> None:
    store, gate = WatchedStore(), asyncio.Event()
    found, closing = await closing_amid_a_save(store, gate, seconds=0)
    assert closing.cancelled()
    gate.set()
    await found.aclose()
    assert [names(raw) for raw in store.saved] == [["a"]]


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


# ---- a pace, in virtual time


class TimedStore(WatchedStore):
    """Remembers when; `room` is how much it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []
        self.room = 1 << 30

    async def save(self, raw: bytes) -> None:
        self.at.append(loop_time())
        if len(raw) > self.room:
            raise CheckpointTooLarge(f"{len(raw)} bytes, there is room for {self.room}")
        await super().save(raw)


def paced(store: WatchedStore, log: list[str], *, elapsed: float = 0.0, **pace: Any) -> CheckpointWriter:
    steps = [msgspec.convert({"name": f"s{number}", "read": {"paths": ["x"]}}, Step) for number in range(9)]
    shelf = Shelf(HEAD, steps, log=lambda about, line: log.append(f"{about}: {line}"))
    return CheckpointWriter(shelf, store, log=lambda about, line: log.append(line), pace=Pace(pause=0, **pace), elapsed=elapsed)


def ended(number: int, characters: int) -> Change:
    return lambda shelf: shelf.step_ended(f"s{number}", StepOutput(text="x" * characters), None)


def in_threads_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """In virtual time, where work in threads takes none: changes are applied on the loop."""

    async def at_once(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    @functools.wraps(test)
    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "to_thread", at_once)
            run_virtual(test())

    return run


@in_threads_time
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


@in_threads_time
async def test_nothing_is_saved_of_a_run_that_ends_in_its_quiet_time() -> None:
    store, log = TimedStore(), list[str]()
    found = paced(store, log, quiet=2, elapsed=0.5)
    found.add(skipped("a"))
    await asyncio.sleep(1.4)
    found.hurry()
    await found.aclose()
    assert (store.at, log) == ([], [])


async def test_a_timer_that_comes_a_little_early_loses_no_save() -> None:
    store, log = TimedStore(), list[str]()
    found = paced(store, log, quiet=0.05)
    found._quiet_until += 3600  # as if no time at all had passed when the timer comes
    found.add(skipped("a"))
    await until(lambda: store.saved)
    await found.aclose()


@in_threads_time
async def test_after_the_quiet_time_there_is_one_save_for_all_and_then_one_in_each_gap() -> None:
    store, log = TimedStore(), list[str]()
    found = paced(store, log, quiet=2, gap=5)
    for number in range(12):
        found.add(skipped(f"s{number}"))
        await asyncio.sleep(1)
    await found.aclose()
    assert store.at == [2.0, 7.0, 12.0]
    assert [len(names(raw)) for raw in store.saved] == [3, 8, 12]


@in_threads_time
async def test_a_large_checkpoint_is_saved_less_often() -> None:
    store, log = TimedStore(), list[str]()
    found = paced(store, log, gap=5, bytes_a_second=1000)
    for number in range(9):
        found.add(ended(number, 10_000))
        await asyncio.sleep(5)
    await found.aclose()
    assert [round(at) for at in store.at] == [0, 10, 40]


@in_threads_time
async def test_a_failed_save_is_tried_again_after_a_gap_though_nothing_else_ends() -> None:
    store, log = TimedStore(), list[str]()
    store.broken = "nobody there"
    found = paced(store, log, gap=5)
    found.add(skipped("a"))
    await asyncio.sleep(12)
    store.broken = None
    await asyncio.sleep(12)
    assert (store.at, log, len(store.saved)) == ([0, 5, 10, 15], ["not saved: nobody there"], 1)
    await found.aclose()


@in_threads_time
async def test_in_a_hurry_a_failed_save_waits_for_the_end_and_is_no_loop() -> None:
    store, log = TimedStore(), list[str]()
    store.broken = "nobody there"
    found = paced(store, log, gap=5)
    found.hurry()
    found.add(skipped("a"))
    await asyncio.sleep(60)
    store.broken = None
    await found.aclose()
    assert (store.at, len(store.saved)) == ([0, 60], 1)


@in_threads_time
async def test_a_run_that_succeeded_leaves_nothing_and_waits_for_no_save() -> None:
    store, log = TimedStore(), list[str]()
    store.gate = asyncio.Event()
    found = paced(store, log, when_succeeded=False)
    found.add(skipped("a"))
    await asyncio.sleep(1)
    found.add(skipped("b"))
    async with asyncio.timeout(1):
        await found.succeeded()
        await found.aclose()
    assert (store.at, store.saved, store.busy) == ([0], [], 0)


@in_threads_time
async def test_what_a_store_has_no_room_for_is_left_out_and_told() -> None:
    store, log = TimedStore(), list[str]()
    store.room = 40_000
    found = paced(store, log)
    for number in range(9):
        found.add(ended(number, 10_000))
    await found.aclose()
    assert [step.name for step in decode(store.saved[0]).steps if step.output is not None] == ["s8"]
    assert log[0].startswith("kept to 45")
    assert any(line.startswith("step s0: its output is not in the checkpoint") for line in log)


@in_threads_time
async def test_a_store_that_has_no_room_for_the_least_is_told_like_one_that_is_away() -> None:
    store, log = TimedStore(), list[str]()
    store.room = 10
    found = paced(store, log)
    found.add(ended(0, 100_000))
    await found.aclose()
    assert (store.saved, log[-1].startswith("not saved: ")) == ([], True)


@in_threads_time
async def test_what_an_earlier_attempt_has_left_is_saved_again_only_with_something_new() -> None:
    store, log = TimedStore(), list[str]()
    found = paced(store, log)
    found.seed(skipped("a"))
    await asyncio.sleep(10)
    await found.flush()
    assert store.saved == []
    found.add(skipped("b"))
    await found.aclose()
    assert [names(raw) for raw in store.saved] == [["a", "b"]]


@in_threads_time
async def test_room_for_something_else_is_made_though_nothing_has_changed() -> None:
    store, log = TimedStore(), list[str]()
    found = paced(store, log)
    found.add(ended(0, 100_000))
    found.add(ended(1, 100_000))
    await found.flush()
    await found.shrink(120_000)
    await found.aclose()
    assert [len(raw) < limit for raw, limit in zip(store.saved, (1 << 20, 120_000), strict=True)] == [True, True]
