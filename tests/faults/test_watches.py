"""F6, F7: streams of events that break, stall, lag behind, repeat themselves and skip."""

import asyncio
from collections.abc import Callable
from itertools import count, cycle

import pytest

from tests.faults import stream_faults as streams
from tests.faults.arena import Open
from tests.faults.checker import End
from tests.faults.lives import SUCCEEDED, ends, live
from tests.faults.paths import path
from tests.faults.plan import Fault, listing, watching
from tests.faults.request_faults import answered, slow_body
from tests.faults.soak import SOAK

KINDS = ("agenttasks", "agentmodels", "pods")
LIVES = ("succeed", "fail", "waits", "deleted")
BROKEN: dict[str, Callable[[], Fault]] = {
    "expired at once": lambda: streams.expired(),
    "expired later": lambda: streams.expired(after=2),
    "cut in the first event": lambda: streams.cut_in_json(),
    "cut in a later event": lambda: streams.cut_in_json(after=2),
    "ended at once": lambda: streams.ended(),
    "ended later": lambda: streams.ended(after=1),
    "410 as the answer": lambda: answered(410, "Expired"),
    "503 as the answer": lambda: answered(503, "ServiceUnavailable"),
}
ODD: tuple[Fault, ...] = tuple(map(streams.streaming, (streams.repeated_lines, streams.reordered_lines, streams.coalesced_lines)))


async def test_watches_break_in_every_way_and_nothing_is_missed(run: Open) -> None:
    """F6: each stream meets each break (in the short form every other), and each list after a 410 is slow while the world goes on."""
    async with run(start=False) as (here, _, plan):
        turns = [KINDS] if SOAK else [("agenttasks",), ("pods",)]  # kopf's watching and our own, by turns
        rules = [plan.add(watching(kind), make()) for make, kinds in zip(BROKEN.values(), cycle(turns)) for kind in kinds]
        plan.add(listing(*KINDS), slow_body(chunk=4096), times=None)
        await here.run(here.controller)
        expected: dict[str, End] = {}
        for number in count():
            expected |= ends(*LIVES, suffix=f"-{number}")
            await live(here, *LIVES, suffix=f"-{number}")
            met = sum(rule.times == 0 for rule in rules)
            if met == len(rules) or number == 7:
                break
        await here.judge(expected)
        assert met >= len(rules) - 2, f"{met} of {len(rules)} faults were met"
        assert here.controller.restarts == 0, here.controller.log[-3000:]


@pytest.mark.parametrize("turn", range(len(ODD) if SOAK else 1))
async def test_events_come_oddly(run: Open, turn: int) -> None:
    """F7: twice, in another order, or the last of each object only; each kind of object in its own way."""
    async with run(start=False) as (here, _, plan):
        for number, kind in enumerate(KINDS):
            plan.add(watching(kind), ODD[(number + turn) % len(ODD)], times=None)
        await here.run(here.controller)
        await live(here)
        await here.judge(ends())


async def test_watches_that_end_at_once_make_no_storm(run: Open) -> None:
    async with run(start=False) as (here, proxy, plan):
        plan.add(watching(), streams.ended(), times=None)
        await here.run(here.controller)
        before, began = len(proxy.seen), asyncio.get_running_loop().time()
        await asyncio.sleep(4.0)
        assert len(proxy.seen) - before < 15 * (asyncio.get_running_loop().time() - began), "15 requests a second"
        plan.clear()
        await live(here, "succeed")
        await here.judge(ends("succeed"))


async def test_a_watch_lags_behind_while_tasks_come_and_go(run: Open) -> None:
    """F6, F7: nothing but bookmarks on all streams; a task is made and deleted unseen, another is made, run and deleted."""
    async with run(start=False) as (here, proxy, plan):
        release = asyncio.Event()
        plan.add(watching(*KINDS), streams.bookmarks_only(release), times=3)
        await here.run(here.controller)
        await proxy.until(lambda seen: len({one.plural for one in seen if one.watch} & set(KINDS)) == 3)
        await here.create("unseen")
        await here.delete("unseen")
        await here.create("kept")
        await asyncio.sleep(1.0)
        assert not here.recorder.ever("kept")
        release.set()
        await here.judge({"unseen": End(gone=True), "kept": SUCCEEDED})


async def test_deletions_while_a_watch_is_lost_are_seen_in_the_next_list(run: Open) -> None:
    """F6: 410 after tasks and their pods were deleted in the gap: no ghost keeps a place, none is acted for."""
    async with run(start=False) as (here, proxy, plan):
        release = asyncio.Event()
        for kind in KINDS:
            plan.add(watching(kind), streams.silent(release))
        await here.create("ghost", pods_for_ever)
        await here.create("kept")
        await here.run(here.controller)
        await here.recorder.until(lambda: here.recorder.pods("ghost"))
        await here.delete("ghost")
        await here.recorder.until(lambda: not here.recorder.pods("ghost"))
        release.set()
        await here.judge({"ghost": End(gone=True), "kept": SUCCEEDED})
        assert path("pods", here.namespace) in {one.path for one in proxy.seen}


async def pods_for_ever(pod: object) -> None:
    """Never starts."""
