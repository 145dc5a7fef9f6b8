"""Locks by path: what collides waits, what does not runs beside it, nobody waits for ever."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.runner.locks import PathLocks, collide

paths = st.lists(st.sampled_from("abc"), max_size=3).map(lambda parts: Path("/w", *parts))
wishes = st.lists(st.tuples(st.lists(paths, max_size=3), st.integers(0, 3), st.integers(0, 8)), max_size=12)
"""Paths, for how many turns, and after how many turns of the loop it is cancelled (8: not)."""


@pytest.mark.parametrize(
    ("one", "other", "yes"),
    [("/w/a", "/w/a", True), ("/w", "/w/a/b", True), ("/w/a/b", "/w/a", True), ("/w/a", "/w/ab", False), ("/w/a/b", "/w/a/c", False)],
)
def test_a_path_collides_with_what_is_above_and_below_it(one: str, other: str, yes: bool) -> None:
    assert collide([Path(one)], [Path(other)]) is yes


@settings(deadline=None)
@given(wishes)
def test_no_two_that_collide_hold_at_once_and_everybody_has_a_turn(wanted: list[tuple[list[Path], int, int]]) -> None:
    async def all_of_them() -> None:
        locks = PathLocks()
        held: list[list[Path]] = []
        done: set[int] = set()

        async def one(number: int, mine: list[Path], turns: int) -> None:
            async with locks.hold(*mine):
                assert not any(collide(mine, other) for other in held)
                held.append(mine)
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                finally:
                    held.remove(mine)
            done.add(number)

        tasks = [asyncio.create_task(one(number, mine, turns)) for number, (mine, turns, _) in enumerate(wanted)]
        for turn in range(8):
            for task, (_, _, cancelled) in zip(tasks, wanted, strict=True):
                if cancelled == turn:
                    task.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
        assert done >= {number for number, end in enumerate(ends) if end is None}
        async with asyncio.timeout(60), locks.hold(Path("/")):  # nothing is left held
            pass

    asyncio.run(all_of_them())


async def test_who_has_waited_longest_goes_before_who_comes_later() -> None:
    locks, order = PathLocks(), []

    async def one(name: str, path: str) -> None:
        async with locks.hold(Path(path)):
            order.append(name)
            await asyncio.sleep(0)

    async with locks.hold(Path("/w/a")):
        tasks = [asyncio.create_task(one(*each)) for each in (("whole", "/w"), ("part", "/w/b"), ("elsewhere", "/x"))]
        await asyncio.sleep(0.01)
        assert order == ["elsewhere"]
    await asyncio.gather(*tasks)
    assert order == ["elsewhere", "whole", "part"]
