"""Limits that change while calls run and wait: the order stays, nobody is forgotten, and what may go goes at once. In virtual time."""

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.virtual_time import in_virtual_time, loop_time, run_virtual

from agenttask.api.model import Limits
from agenttask.plugin.llm import Usage
from agenttask.runner.llm.bucket import Bucket
from agenttask.runner.llm.concurrency import Concurrency
from agenttask.runner.llm.limiting import ModelLimits


class Calls:
    """Calls of one second within limits, numbered as they came, with the time at which each began."""

    def __init__(self, **limits: int) -> None:
        self.limits = ModelLimits(Limits(**limits), clock=loop_time)
        self.began: list[tuple[int, float]] = []
        self.running = self.most = 0
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, count: int, tokens: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._one(len(self.tasks) + number, tokens)) for number in range(count)]

    async def _one(self, number: int, tokens: int) -> None:
        await self.limits.enter(tokens)
        self.began.append((number, loop_time()))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(1)
        self.running -= 1
        self.limits.leave()

    def change(self, **limits: int) -> None:
        self.limits.change(Limits(**limits))

    async def all(self) -> list[tuple[int, float]]:
        await asyncio.gather(*self.tasks)
        return self.began


@in_virtual_time
async def test_a_larger_share_lets_those_go_at_once_who_wait_in_their_order() -> None:
    calls = Calls(concurrent_calls=1)
    calls.add(5)
    await asyncio.sleep(0.5)
    calls.change(concurrent_calls=3)
    assert await calls.all() == [(0, 0.0), (1, 0.5), (2, 0.5), (3, 1.0), (4, 1.5)]


@in_virtual_time
async def test_a_smaller_share_stops_no_call_and_starts_none_until_enough_have_ended() -> None:
    calls = Calls(concurrent_calls=3)
    calls.add(5)
    await asyncio.sleep(0.5)
    calls.change(concurrent_calls=1)
    assert await calls.all() == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0), (4, 2.0)]


@in_virtual_time
async def test_a_share_of_nothing_holds_everybody_until_there_is_one() -> None:
    calls = Calls(concurrent_calls=0)
    calls.add(2)
    await asyncio.sleep(60)
    assert calls.began == []
    calls.change(concurrent_calls=2)
    assert await calls.all() == [(0, 60.0), (1, 60.0)]


@in_virtual_time
async def test_without_limits_any_more_all_go() -> None:
    calls = Calls(concurrent_calls=1, requests_per_minute=1, tokens_per_minute=1)
    calls.add(4)
    await asyncio.sleep(0.5)
    calls.change()
    assert await calls.all() == [(0, 0.0), (1, 0.5), (2, 0.5), (3, 0.5)]


@in_virtual_time
async def test_limits_that_come_later_hold_for_those_who_come_later() -> None:
    calls = Calls()
    calls.add(3)
    await asyncio.sleep(0.5)
    calls.change(concurrent_calls=1)
    calls.add(2)
    assert await calls.all() == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0), (4, 2.0)]


@pytest.mark.parametrize("which", ["requests_per_minute", "tokens_per_minute"])
@in_virtual_time
async def test_a_waiting_call_goes_by_the_rate_that_it_has_now(which: str) -> None:
    calls = Calls(**{which: 1})
    calls.add(3)
    await asyncio.sleep(6)  # a tenth of a request is there
    calls.change(**{which: 60})
    began = await calls.all()
    assert [number for number, _ in began] == [0, 1, 2]
    assert [at for _, at in began] == pytest.approx([0, 6.9, 7.9], abs=0.01)


@in_virtual_time
async def test_a_bucket_that_shrank_gives_a_waiting_large_amount_what_fits_by_now() -> None:
    bucket = Bucket(600, clock=loop_time)
    await bucket.take(600)
    waiting = asyncio.create_task(bucket.take(600))
    await asyncio.sleep(1)
    bucket.change(60)
    assert (await waiting, loop_time()) == (60, pytest.approx(51.0, abs=0.01))


@in_virtual_time
async def test_a_bucket_that_never_fills_gives_nothing_until_it_does() -> None:
    bucket = Bucket(0, clock=loop_time)
    waiting = asyncio.create_task(bucket.take(0.5))
    await asyncio.sleep(600)
    assert not waiting.done()
    bucket.change(60)
    assert (await waiting, loop_time()) == (0.5, pytest.approx(600.5, abs=0.01))


@in_virtual_time
async def test_what_was_used_while_there_was_no_limit_is_paid_when_there_is_one() -> None:
    limits = ModelLimits(Limits(), clock=loop_time)
    reservation = await limits.enter(10)
    limits.change(Limits(tokens_per_minute=60))
    reservation.used(Usage(calls=1, input_tokens=60, output_tokens=30))
    await limits.enter(1)
    assert loop_time() == pytest.approx(31.0, abs=0.01)


@in_virtual_time
async def test_who_is_cancelled_in_the_moment_of_a_change_takes_nobodys_place() -> None:
    places = Concurrency(0)
    first, second = asyncio.create_task(places.acquire()), asyncio.create_task(places.acquire())
    await asyncio.sleep(0)
    places.change(1)
    first.cancel()
    async with asyncio.timeout(1):
        await second
    assert first.cancelled()


CHANGES = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 20.0]), st.none() | st.integers(0, 5)), max_size=8)


@given(count=st.integers(1, 12), first=st.none() | st.integers(0, 5), changes=CHANGES)
def test_whatever_becomes_of_a_share_the_order_stays_and_all_go_in_the_end(
    count: int, first: int | None, changes: Sequence[tuple[float, int | None]]
) -> None:
    async def work() -> None:
        calls = Calls(**({} if first is None else {"concurrent_calls": first, "requests_per_minute": first}))
        calls.add(count)
        most = math.inf if first is None else first
        for pause, share in changes:
            await asyncio.sleep(pause)
            most = max(most, math.inf if share is None else share)
            calls.change(**({} if share is None else {"concurrent_calls": share, "requests_per_minute": share}))
        calls.change(concurrent_calls=1, requests_per_minute=10)
        assert [number for number, _ in await calls.all()] == list(range(count))
        assert calls.most <= max(most, 1)

    run_virtual(work())
