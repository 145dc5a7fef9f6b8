"""What every threading strategy promises: the loop stays free, errors and context pass, draining ends in time."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator

import pytest
from tests.fakes.computing import fail, square

from agenttask.api.errors import Interrupted
from agenttask.plugin.gathering import Call, Failed, gather
from agenttask.plugin.threading import TellsSizes, ThreadingLimits, ThreadingState, ThreadingStrategy, WorkKind
from agenttask_threading import agenttask_threading_strategies
from agenttask_threading.threads import thread_count

STRATEGIES = agenttask_threading_strategies()
OFF_LOOP = [WorkKind.BLOCKING_IO, WorkKind.NATIVE_CPU, WorkKind.PYTHON_CPU]
ENOUGH = 60.0
"""Seconds within which anything here happens."""
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


class Held:
    """A function that blocks until it is released, and tells that it has begun: on a thread, which the system starts when it likes."""

    def __init__(self) -> None:
        self.release, self.ended = threading.Event(), threading.Event()
        self._begun = threading.Semaphore(0)

    def run(self) -> bool:
        self._begun.release()
        released = self.release.wait(ENOUGH)
        self.ended.set()
        return released

    async def begun(self, times: int = 1) -> None:
        for _ in range(times):
            assert await asyncio.to_thread(self._begun.acquire, timeout=ENOUGH)


@pytest.fixture(params=sorted(STRATEGIES))
async def strategy(request: pytest.FixtureRequest) -> AsyncIterator[ThreadingStrategy]:
    made = STRATEGIES[request.param](ThreadingLimits(max_workers=2, max_processes=2))
    yield made
    await made.drain(5)


async def test_it_says_how_large_its_pools_may_grow(strategy: ThreadingStrategy):
    assert isinstance(strategy, TellsSizes)
    assert strategy.sizes() in ("2 threads", "2 threads, 2 processes")


@pytest.mark.parametrize("kind", OFF_LOOP)
async def test_a_function_gives_its_result(strategy: ThreadingStrategy, kind: WorkKind):
    assert await strategy.run(kind, square, 7) == 49


@pytest.mark.parametrize("kind", OFF_LOOP)
async def test_an_exception_is_raised_as_it_is(strategy: ThreadingStrategy, kind: WorkKind):
    with pytest.raises(KeyError, match="mine"):
        await strategy.run(kind, fail)


@pytest.mark.parametrize("kind", list(WorkKind))
async def test_a_coroutine_function_runs_on_the_loop(strategy: ThreadingStrategy, kind: WorkKind):
    async def where() -> tuple[asyncio.AbstractEventLoop, int]:
        return asyncio.get_running_loop(), threading.get_ident()

    assert await strategy.run(kind, where) == (asyncio.get_running_loop(), threading.get_ident())


async def test_a_plain_function_declared_asynchronous_is_refused(strategy: ThreadingStrategy):
    with pytest.raises(TypeError, match="is declared async-io and is no coroutine function; declare what it does"):
        await strategy.run(WorkKind.ASYNC_IO, square, 2)


async def test_the_loop_goes_on_while_a_function_blocks(strategy: ThreadingStrategy):
    held = Held()
    blocked = asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run))
    await held.begun()
    held.release.set()
    assert await blocked is True


async def test_as_many_run_at_once_as_there_are_workers(strategy: ThreadingStrategy):
    meeting = threading.Barrier(2)
    async with asyncio.timeout(ENOUGH):
        await asyncio.gather(*(strategy.run(WorkKind.BLOCKING_IO, meeting.wait, ENOUGH) for _ in range(4)))


async def test_context_variables_are_the_callers(strategy: ThreadingStrategy):
    WHO.set("me")
    assert await strategy.run(WorkKind.BLOCKING_IO, WHO.get) == "me"


async def test_draining_waits_for_what_runs(strategy: ThreadingStrategy):
    held, begun, ended = Held(), asyncio.Event(), asyncio.Event()

    async def on_loop() -> str:
        begun.set()
        await ended.wait()
        return "loop"

    running = [
        asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run)),
        asyncio.create_task(strategy.run(WorkKind.ASYNC_IO, on_loop)),
    ]
    await held.begun()
    await begun.wait()
    drained = asyncio.create_task(strategy.drain(ENOUGH))
    await asyncio.sleep(0.05)
    assert not drained.done()
    held.release.set()
    ended.set()
    await drained
    assert [await task for task in running] == [True, "loop"]


async def test_draining_ends_in_time_although_something_runs_on(strategy: ThreadingStrategy):
    held = Held()
    stuck = asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run))
    endless = asyncio.create_task(strategy.run(WorkKind.ASYNC_IO, asyncio.sleep, ENOUGH))
    await held.begun()
    started = time.monotonic()
    await strategy.drain(0.1)
    assert 0.1 <= time.monotonic() - started < ENOUGH / 2
    assert (stuck.done(), endless.done()) == (False, False)
    held.release.set()
    endless.cancel()
    assert await stuck is True


async def test_draining_waits_for_a_thread_whose_caller_was_cancelled(strategy: ThreadingStrategy):
    held = Held()
    caller = asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run))
    await held.begun()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    asyncio.get_running_loop().call_later(0.05, held.release.set)
    await strategy.drain(ENOUGH)
    assert held.ended.is_set()


async def test_draining_drops_what_is_queued_with_a_typed_error(strategy: ThreadingStrategy):
    held = Held()
    running = [asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run)) for _ in range(2)]
    queued = asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, square, 2))
    await held.begun(2)
    drained = asyncio.create_task(strategy.drain(ENOUGH))
    with pytest.raises(Interrupted, match="square did not run: the runner is stopping"):
        await queued
    held.release.set()
    await drained
    assert [await task for task in running] == [True, True]


async def test_nothing_starts_after_draining(strategy: ThreadingStrategy):
    await strategy.drain(1)
    for kind in WorkKind:
        with pytest.raises(Interrupted, match="the runner is stopping"):
            await strategy.run(kind, square, 2)


async def test_draining_twice_is_harmless(strategy: ThreadingStrategy):
    await strategy.drain(1)
    await strategy.drain(1)


async def test_a_cancelled_caller_is_cancelled_and_not_interrupted(strategy: ThreadingStrategy):
    held = Held()
    running = [asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run)) for _ in range(2)]
    queued = asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, square, 2))
    await held.begun(2)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    held.release.set()
    await asyncio.gather(*running)


async def test_a_kind_that_is_none_is_refused(strategy: ThreadingStrategy):
    with pytest.raises(TypeError, match="square: 'gpu' is no kind of work; declare one of async-io, blocking-io, native-cpu, python-cpu"):
        await strategy.run("gpu", square, 2)  # type: ignore[arg-type]  # what a plugin may do all the same


async def test_the_state_tells_what_runs_and_what_waits(strategy: ThreadingStrategy):
    held = Held()
    assert strategy.state == ThreadingState()
    calls = [asyncio.create_task(strategy.run(WorkKind.BLOCKING_IO, held.run)) for _ in range(3)]
    await held.begun(2)
    assert strategy.state == ThreadingState(queued=1, threads=2)
    held.release.set()
    await asyncio.gather(*calls)
    assert strategy.state == ThreadingState()


async def test_a_call_that_fails_takes_nothing_from_the_others(strategy: ThreadingStrategy):
    calls = [
        Call(kind=WorkKind.BLOCKING_IO, function=square, args=(2,)),
        Call(kind=WorkKind.PYTHON_CPU, function=fail),
        Call(kind=WorkKind.PYTHON_CPU, function=square, args=(3,)),
        Call(kind=WorkKind.ASYNC_IO, function=square, args=(4,)),
    ]
    first, second, third, fourth = await gather(strategy, calls)
    assert (first, third) == (4, 9)
    assert isinstance(second, Failed)
    assert repr(second.error) == "KeyError('mine')"
    assert isinstance(fourth, Failed)
    assert isinstance(fourth.error, TypeError)


async def test_a_gather_of_nothing_is_nothing_and_a_cancelled_one_cancels_its_calls(strategy: ThreadingStrategy):
    assert await gather(strategy, []) == []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    gathering = asyncio.create_task(gather(strategy, [Call(kind=WorkKind.ASYNC_IO, function=endless)]))
    await begun.wait()
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    assert ended.is_set()


async def test_nothing_is_started_before_it_is_needed(strategy: ThreadingStrategy):
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile
    await strategy.run(WorkKind.ASYNC_IO, asyncio.sleep, 0)
    assert set(threading.enumerate()) <= before
    assert strategy.state == ThreadingState()


@pytest.mark.parametrize(
    ("limits", "threads"),
    [
        pytest.param(ThreadingLimits(cpus=2), 6, id="two cpus"),
        pytest.param(ThreadingLimits(cpus=64), 32, id="many cpus"),
        pytest.param(ThreadingLimits(cpus=64, max_workers=3), 3, id="as the task says"),
    ],
)
def test_the_number_of_threads_follows_the_limits(limits: ThreadingLimits, threads: int):
    assert thread_count(limits) == threads
