"""Slots: never more than the limits, nobody waits for ever, who goes first, and what closing does."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.errors import SoftDeadlineReached
from agenttask.runner.slots import Claim, Slots

KINDS = ("exec", "chat", "read")


async def settle() -> None:
    """Let everything go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Crowd:
    """Tries that take a few turns of the loop each, and the order in which they began."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.most_at_all = 0
        self.began: list[str] = []

    async def one(self, name: str, claim: Claim, turns: int) -> None:
        async with self.slots.hold(claim):
            self.began.append(name)
            self.running[claim.kind] += 1
            self.most[claim.kind] = max(self.most[claim.kind], self.running[claim.kind])
            self.most_at_all = max(self.most_at_all, self.running.total())
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                self.running[claim.kind] -= 1


claims = st.builds(Claim, index=st.integers(0, 5), kind=st.sampled_from(KINDS), priority=st.integers(-1, 1))
tries = st.lists(st.tuples(claims, st.integers(0, 3), st.integers(0, 8)), max_size=30)
"""Who, for how many turns, and after how many turns it is cancelled (8: not)."""


@settings(deadline=None)
@given(tries, st.integers(1, 4), st.dictionaries(st.sampled_from(KINDS), st.integers(1, 2)))
def test_limits_hold_and_everybody_has_a_turn_whoever_is_cancelled(
    wanted: list[tuple[Claim, int, int]], limit: int, by_kind: dict[str, int]
) -> None:
    async def all_of_them() -> tuple[Crowd, list[bool]]:
        crowd = Crowd(Slots(limit, by_kind))
        tasks = [asyncio.create_task(crowd.one(str(place), claim, turns)) for place, (claim, turns, _) in enumerate(wanted)]
        for turn in range(8):
            for task, (_, _, cancelled) in zip(tasks, wanted, strict=True):
                if cancelled == turn:
                    task.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(60):  # no slot was lost: all of them can be had once more
            await asyncio.gather(*(crowd.one("again", Claim(index=9, kind="other"), 3) for _ in range(limit)))
        return crowd, [task.cancelled() for task in tasks]

    crowd, cancelled = asyncio.run(all_of_them())
    assert crowd.most_at_all == limit
    assert all(crowd.most[kind] <= most for kind, most in by_kind.items())
    assert {str(place) for place, gone in enumerate(cancelled) if not gone} <= set(crowd.began)


async def order(slots: Slots, *wanted: tuple[str, Claim]) -> list[str]:
    """In which order they begin, once the slot that all wait for is free."""
    crowd = Crowd(slots)
    async with slots.hold(Claim(index=63, kind="first")):
        tasks = [asyncio.create_task(crowd.one(name, claim, 3)) for name, claim in wanted]
        await settle()
    await asyncio.gather(*tasks)
    return crowd.began


def claim(index: int, priority: int = 0, kind: str = "chat") -> Claim:
    return Claim(index=index, kind=kind, priority=priority)


async def test_among_equals_the_order_of_the_spec_decides() -> None:
    assert await order(Slots(1, {}), ("c", claim(2)), ("a", claim(0)), ("b", claim(1))) == ["a", "b", "c"]


async def test_the_higher_priority_goes_first() -> None:
    assert await order(Slots(1, {}), ("a", claim(0)), ("b", claim(1, 5)), ("c", claim(2, -5))) == ["b", "a", "c"]


async def test_items_of_one_step_begin_in_their_order() -> None:
    assert await order(Slots(1, {}), *((str(item), claim(0)) for item in range(4))) == ["0", "1", "2", "3"]


async def test_a_long_list_does_not_keep_a_short_step_waiting() -> None:
    items = [(f"item {number}", claim(0)) for number in range(6)]
    began = await order(Slots(1, {}), *items, ("short", claim(1)))
    assert began[:3] == ["item 0", "short", "item 1"]


async def test_two_lists_take_turns_and_the_later_one_has_no_arrears() -> None:
    slots = Slots(1, {})
    for _ in range(100):
        async with slots.hold(claim(0)):
            pass
    began = await order(slots, *((f"a{number}", claim(0)) for number in range(3)), *((f"b{number}", claim(1)) for number in range(3)))
    assert began == ["b0", "a0", "b1", "a1", "b2", "a2"]


async def test_a_kind_without_room_does_not_hold_up_another() -> None:
    slots = Slots(2, {"exec": 1})
    crowd = Crowd(slots)
    async with slots.hold(claim(0, kind="exec")):
        waiting = asyncio.create_task(crowd.one("second exec", claim(1, 9, "exec"), 0))
        await settle()
        await crowd.one("chat", claim(2), 0)
        assert crowd.began == ["chat"]
    await waiting


async def test_closing_ends_those_that_wait_and_those_that_come_and_leaves_the_running() -> None:
    slots = Slots(1, {})
    late = SoftDeadlineReached("no time")
    async with slots.hold(claim(0)):
        waiting = asyncio.create_task(Crowd(slots).one("a", claim(1), 0))
        pausing = asyncio.create_task(slots.pause(3600))
        gone = asyncio.create_task(Crowd(slots).one("b", claim(1), 0))
        await settle()
        gone.cancel()
        slots.close(late)
        slots.close(SoftDeadlineReached("the first one counts"))
        for task in (waiting, pausing):
            with pytest.raises(SoftDeadlineReached, match="no time"):
                await task
        with pytest.raises(asyncio.CancelledError):
            await gone
    with pytest.raises(SoftDeadlineReached, match="no time"):
        await Crowd(slots).one("c", claim(2), 0)


async def test_a_pause_ends_by_itself() -> None:
    await Slots(1, {}).pause(0.001)


async def test_who_is_cancelled_with_the_slot_in_hand_gives_it_back() -> None:
    slots = Slots(1, {})
    crowd = Crowd(slots)
    async with slots.hold(claim(0)):
        waiting = asyncio.create_task(crowd.one("a", claim(1), 0))
        await settle()
    waiting.cancel()  # the slot was given in this very turn of the loop
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await crowd.one("b", claim(2), 0)
    assert crowd.began == ["b"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), claims, st.integers(0, 3)), max_size=20), st.integers(1, 3), st.integers(1, 4))
def test_tasks_that_share_slots_keep_to_both_limits_and_never_wait_for_each_other_for_ever(
    wanted: list[tuple[int, Claim, int]], own: int, together: int
) -> None:
    async def all_of_them() -> tuple[list[Crowd], int]:
        shared = Slots(together, {})
        crowds = [Crowd(Slots(own, {}, within=shared, name=f"t-{task}")) for task in range(3)]
        most = 0

        async def one(task: int, claim: Claim, turns: int) -> None:
            nonlocal most
            work = asyncio.ensure_future(crowds[task].one("x", claim, turns))
            while not work.done():
                most = max(most, sum(crowd.running.total() for crowd in crowds))
                await asyncio.sleep(0)

        async with asyncio.timeout(60):
            await asyncio.gather(*(one(*each) for each in wanted))
        return crowds, most

    crowds, most = asyncio.run(all_of_them())
    assert most <= together
    assert all(crowd.most_at_all <= own for crowd in crowds)


async def test_among_tasks_that_share_slots_the_higher_priority_goes_first() -> None:
    shared = Slots(1, {})
    tasks = {name: Slots(5, {}, within=shared, name=name) for name in ("low", "high")}
    began: list[str] = []

    async def one(name: str, priority: int) -> None:
        async with tasks[name].hold(Claim(index=0, kind="a", priority=priority)):
            began.append(f"{name} {priority}")
            await asyncio.sleep(0)

    async with shared.hold(Claim(index=0, kind="a", task="other")):
        waiting = [asyncio.create_task(one("low", 0)), asyncio.create_task(one("low", 1)), asyncio.create_task(one("high", 5))]
        await asyncio.sleep(0.01)
    await asyncio.gather(*waiting)
    assert began == ["high 5", "low 1", "low 0"]


async def test_a_task_that_is_closed_leaves_the_shared_slots_to_the_others() -> None:
    shared = Slots(1, {})
    ending, other = (Slots(5, {}, within=shared, name=name) for name in ("ending", "other"))

    async def one(slots: Slots) -> str:
        async with slots.hold(Claim(index=0, kind="a")):
            return "began"

    async with shared.hold(Claim(index=1, kind="a", task="third")):
        waiting = [asyncio.create_task(one(ending)), asyncio.create_task(one(other))]
        await asyncio.sleep(0.01)
        ending.close(SoftDeadlineReached("the end"))
        with pytest.raises(SoftDeadlineReached):
            await waiting[0]
    assert await waiting[1] == "began"
