"""Steps start as soon as their needs have ended; the first failure ends all, a soft deadline lets what runs end."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.errors import SoftDeadlineReached
from agenttask.api.steps import Read, Step
from agenttask.domain.graph import StepGraph
from agenttask.runner.schedule import run_in_order


def graph(needs: list[set[int]]) -> StepGraph:
    return StepGraph(
        [
            Step(name=f"s{index}", needs=tuple(f"s{need}" for need in sorted(each)), read=Read(paths=("x",)))
            for index, each in enumerate(needs)
        ]
    )


@st.composite
def graphs(draw: st.DrawFn) -> list[set[int]]:
    """Needs of each step, some of them later in the list: a random order is the one that works."""
    size = draw(st.integers(1, 12))
    order = draw(st.permutations(range(size)))
    needs: list[set[int]] = [set() for _ in range(size)]
    for position, index in enumerate(order):
        needs[index] = draw(st.sets(st.sampled_from(order[:position]), max_size=3)) if position else set()
    return needs


class Watched:
    """Steps that take a few turns of the loop, and what was seen of them."""

    def __init__(self, turns: list[int], failing: frozenset[int] = frozenset(), error: type[Exception] = ValueError) -> None:
        self.error = error
        self.turns = turns
        self.failing = failing
        self.running: set[int] = set()
        self.ended: list[int] = []
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.why: list[str] = []
        self.needs: StepGraph

    async def run(self, index: int) -> None:
        assert self.needs.needs(index) <= set(self.ended)
        self.started.append(index)
        self.running.add(index)
        try:
            for _ in range(self.turns[index]):
                await asyncio.sleep(0)
            if index in self.failing:
                raise self.error(index)
            self.ended.append(index)
        except asyncio.CancelledError:
            self.cancelled.append(index)
            raise
        finally:
            self.running.discard(index)


@settings(deadline=None)
@given(needs=graphs(), data=st.data())
def test_every_step_starts_after_its_needs(needs: list[set[int]], data: st.DataObject) -> None:
    watched = Watched([data.draw(st.integers(0, 4)) for _ in needs])
    watched.needs = graph(needs)
    asyncio.run(run_in_order(watched.needs, run=watched.run, halt=watched.why.append))
    assert sorted(watched.ended) == list(range(len(needs)))
    assert watched.why == []


@settings(deadline=None)
@given(needs=graphs(), data=st.data())
def test_after_a_failure_nothing_starts_and_nothing_goes_on(needs: list[set[int]], data: st.DataObject) -> None:
    failing = data.draw(st.sets(st.sampled_from(range(len(needs))), min_size=1))
    watched = Watched([data.draw(st.integers(0, 4)) for _ in needs], frozenset(failing))
    watched.needs = graph(needs)
    with pytest.raises(ValueError):
        asyncio.run(run_in_order(watched.needs, run=watched.run, halt=watched.why.append))
    failed = set(watched.started) - set(watched.ended) - set(watched.cancelled)
    assert failed
    assert failed <= failing
    assert watched.running == set()
    assert watched.why[0] in {f"cancelled because step 's{index}' failed" for index in failed}
    assert not any(watched.needs.ancestors(index) & failed for index in watched.started)


async def test_cancelling_the_whole_waits_for_the_steps_to_end() -> None:
    ended: list[int] = []

    async def run(index: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(index)

    whole = asyncio.create_task(run_in_order(graph([set(), set()]), run=run, halt=lambda _: None))
    await asyncio.sleep(0.01)
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert sorted(ended) == [0, 1]


@settings(deadline=None)
@given(needs=graphs(), data=st.data())
def test_after_a_soft_deadline_what_runs_may_end_and_nothing_that_needs_the_late_ones_starts(
    needs: list[set[int]], data: st.DataObject
) -> None:
    late = data.draw(st.sets(st.sampled_from(range(len(needs))), min_size=1))
    watched = Watched([data.draw(st.integers(0, 4)) for _ in needs], frozenset(late), SoftDeadlineReached)
    watched.needs = graph(needs)
    with pytest.raises(SoftDeadlineReached):
        asyncio.run(run_in_order(watched.needs, run=watched.run, halt=watched.why.append))
    assert watched.cancelled == []
    assert watched.why == []
    assert set(watched.started) == {index for index in range(len(needs)) if not watched.needs.ancestors(index) & late}


async def test_an_error_of_a_step_that_is_being_cancelled_is_no_news() -> None:
    async def run(index: int) -> None:
        try:
            await asyncio.sleep(60 if index else 0)
        except asyncio.CancelledError:
            raise OSError("late") from None
        raise ValueError(index)

    with pytest.raises(ValueError, match="0"):
        await run_in_order(graph([set(), set()]), run=run, halt=lambda _: None)
