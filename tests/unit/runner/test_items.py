"""Items: so many at once, in their order; the first failure ends all, a soft deadline lets the running ones end."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.errors import SoftDeadlineReached
from agenttask.runner.items import run_items


class Worked:
    def __init__(self, turns: list[int], failing: dict[int, Exception] | None = None) -> None:
        self.turns = turns
        self.failing = failing or {}
        self.started: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.most = 0

    async def run(self, position: int) -> None:
        self.started.append(position)
        self.most = max(self.most, len(self.started) - len(self.ended) - len(self.cancelled))
        try:
            for _ in range(self.turns[position]):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(position)
            raise
        if position in self.failing:
            raise self.failing[position]
        self.ended.append(position)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 6))
def test_all_items_run_in_their_order_and_never_more_than_allowed(turns: list[int], parallelism: int) -> None:
    worked = Worked(turns)
    asyncio.run(run_items(range(len(turns)), parallelism=parallelism, run=worked.run))
    assert worked.started == list(range(len(turns)))
    assert sorted(worked.ended) == worked.started
    assert worked.most <= parallelism


async def test_the_first_failure_cancels_the_others_and_starts_no_more() -> None:
    worked = Worked([50, 1, 50, 0], {1: ValueError("second")})
    with pytest.raises(ValueError, match="second"):
        await run_items(range(4), parallelism=3, run=worked.run)
    assert (worked.started, sorted(worked.cancelled), worked.ended) == ([0, 1, 2], [0, 2], [])


async def test_of_failures_at_once_the_earliest_counts() -> None:
    worked = Worked([1, 1], {0: ValueError("first"), 1: ValueError("second")})
    with pytest.raises(ValueError, match="first"):
        await run_items(range(2), parallelism=2, run=worked.run)


async def test_a_soft_deadline_lets_the_running_items_end() -> None:
    worked = Worked([5, 0, 0], {1: SoftDeadlineReached("no time")})
    with pytest.raises(SoftDeadlineReached):
        await run_items(range(3), parallelism=2, run=worked.run)
    assert (worked.started, worked.ended, worked.cancelled) == ([0, 1], [0], [])


async def test_cancelling_the_whole_waits_for_the_items_to_end() -> None:
    worked = Worked([10**6, 10**6])
    whole = asyncio.create_task(run_items(range(2), parallelism=2, run=worked.run))
    await asyncio.sleep(0.01)
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert sorted(worked.cancelled) == [0, 1]
