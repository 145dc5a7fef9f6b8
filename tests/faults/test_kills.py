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


PODS = sum(LIVES[name].end.pods for name in NAMES)
PATCHES = sum(LIVES[name].patches for name in NAMES)
LASTING = ("late", "long", "deleted")
"""Their pods run until they are told of."""


def sure(name: str, state: str) -> bool:
    """Whether a clean run writes this phase and reason on every machine: a pod that starts or runs for two seconds is told of."""
    return not state.endswith(("Starting PodStarting", "Running PodRunning")) or (name in LASTING and state.endswith("PodRunning"))


async def clean(run: Open) -> list[str]:
    """The writes of a run without faults, which are as few as can be."""
    async with run() as (here, proxy, _):
        await live(here, *NAMES)
        history = await here.judge(ends(*NAMES))
        written = Counter(one.verb for one in history.ours if one.code < 300)
        told = [one for one in history.ours if one.verb == "patch" and one.code < 300]
        slow = [one for one in told if not sure(one.name, "{phase} {reason}".format_map({"phase": "", "reason": ""} | one.sent["status"]))]
        assert written["create"] == PODS
        assert written["delete"] == DELETES
        assert len(told) - len(slow) == PATCHES
        assert len(slow) <= 2 * PODS
        assert here.controller.restarts == 0
        return sorted({one.key for one in proxy.seen if one.mutating and sure(one.name, one.key)})


async def test_killed_before_and_after_every_write_of_a_clean_run(run: Open) -> None:
    writes = await clean(run)
    assert len(writes) == PODS + PATCHES + DELETES, writes
    async with run() as (here, _, plan):
        for key in writes:
            plan.add(keyed(key), killed_before(here.controller.kill))
            plan.add(keyed(key), killed_after(here.controller.kill))
        await live(here, *NAMES)
        await here.judge(ends(*NAMES), seconds=420)
        assert {key: plan.met[key] for key in writes} == dict.fromkeys(writes, 2)
        assert here.controller.kills >= len(writes)
        assert here.controller.restarts == 0, here.controller.log[-3000:]
