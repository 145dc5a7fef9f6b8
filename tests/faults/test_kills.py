"""F1, F2: SIGKILL before and after every write that a clean run makes.

One run meets all points: each write's first try is never sent, the second is done and its answer never heard, the third
passes. So every start but the first is a recovery, and most kills hit one.
"""

from collections import Counter

from tests.faults.arena import Open
from tests.faults.lives import LIVES, ends, live
from tests.faults.plan import keyed
from tests.faults.request_faults import killed_after, killed_before
from tests.faults.soak import SOAK

NAMES = tuple(LIVES) if SOAK else ("waits", "late", "evicted")
DELETES = sum(name in ("late", "image") for name in NAMES)


async def clean(run: Open) -> list[str]:
    """The writes of a run without faults, which are as few as can be."""
    async with run() as (here, proxy, _):
        await live(here, *NAMES)
        history = await here.judge(ends(*NAMES))
        written = Counter(one.verb for one in history.ours if one.code < 300)
        assert written["create"] == sum(LIVES[name].end.pods for name in NAMES)
        assert written["delete"] == DELETES
        assert written["patch"] == sum(LIVES[name].patches for name in NAMES)
        assert here.controller.restarts == 0
        return sorted({one.key for one in proxy.seen if one.mutating})


async def test_killed_before_and_after_every_write_of_a_clean_run(run: Open) -> None:
    writes = await clean(run)
    assert len(writes) == sum(LIVES[name].end.pods + LIVES[name].patches for name in NAMES) + DELETES, writes
    async with run() as (here, _, plan):
        for key in writes:
            plan.add(keyed(key), killed_before(here.controller.kill))
            plan.add(keyed(key), killed_after(here.controller.kill))
        await live(here, *NAMES)
        await here.judge(ends(*NAMES), seconds=240)
        assert {key: plan.met[key] for key in writes} == dict.fromkeys(writes, 2)
        assert here.controller.kills >= len(writes)
        assert here.controller.restarts == 0, here.controller.log[-3000:]
