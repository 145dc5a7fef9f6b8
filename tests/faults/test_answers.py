"""F3, F4, F5: what the API server may answer, and may fail to."""

import asyncio
from collections import Counter
from itertools import pairwise

from aiohttp import web

from tests.faults.arena import Open
from tests.faults.checker import End
from tests.faults.lives import SUCCEEDED, ends, live
from tests.faults.paths import path
from tests.faults.plan import FirstOfEach, keyed, on
from tests.faults.proxy import Exchange
from tests.faults.request_faults import answered, hanging, held_answer, lost_answer, refused, slow_body

PATCHES = on("PATCH", "agenttasks", subresource="status")


async def test_the_answer_to_every_write_is_lost(run: Open) -> None:
    """F3: create, patch and delete are done, and the controller does not know."""
    async with run() as (here, _, plan):
        plan.add(FirstOfEach(), lost_answer, times=None)
        await live(here)
        await here.judge(ends())
        assert plan.met.total() >= 19
        assert here.controller.restarts == 0


async def test_every_request_is_refused_in_every_way(run: Open) -> None:
    """F4: each write meets 429, 500, 503, 504 and a reset, one after the other, and lists are slow."""
    async with run(start=False) as (here, proxy, plan):
        plan.add(on("GET"), slow_body(), times=3)
        for fault in (
            answered(429, "TooManyRequests", retry_after=1),
            answered(500, "InternalError"),
            answered(503, "ServiceUnavailable"),
            answered(504, "Timeout"),
            refused,
        ):
            plan.add(FirstOfEach(), fault, times=None)
        await here.run(here.controller)
        await live(here, "succeed", "fail", "waits", "late")
        await here.judge(ends("succeed", "fail", "waits", "late"))
        tries = [one.at for one in proxy.seen if one.key == "POST pods/succeed-1"]
        gaps = [later - earlier for earlier, later in pairwise(tries)]
        assert len(tries) == 6
        assert gaps[0] >= 1.0, "Retry-After is waited for"
        assert here.controller.restarts == 0


async def test_an_outage_is_waited_out_without_a_storm(run: Open) -> None:
    """F4: nothing works for a while, for lists and watches too; then all that happened meanwhile is caught up with."""
    async with run() as (here, proxy, plan):
        await live(here, "succeed")
        await here.recorder.until_phase("succeed", "Succeeded")
        await proxy.close()
        await live(here, "fail")
        await asyncio.sleep(1.0)
        plan.add(lambda _: True, answered(503, "ServiceUnavailable"), times=None)
        await proxy.open()
        before, began = len(proxy.seen), asyncio.get_running_loop().time()
        await asyncio.sleep(3.0)
        assert len(proxy.seen) - before < 20 * (asyncio.get_running_loop().time() - began), "requests in an outage, 20 a second"
        plan.clear()
        await here.judge(ends("succeed", "fail"))
        assert here.controller.restarts == 0


async def test_a_request_that_hangs_holds_up_its_own_task_only(run: Open) -> None:
    async with run() as (here, proxy, plan):
        release = asyncio.Event()
        held = {"POST pods/stuck-1": hanging(release), "POST pods/heard-late-1": held_answer(release)}
        for key, fault in held.items():
            plan.add(keyed(key), fault)
        await here.create("stuck")
        await here.create("heard-late")
        await proxy.until(lambda seen: held.keys() <= {one.key for one in seen})
        await live(here, "succeed")
        await here.recorder.until_phase("succeed", "Succeeded")
        tries = Counter(one.key for one in proxy.seen)
        assert {key: tries[key] for key in held} == dict.fromkeys(held, 1), "nobody has given them up yet"
        release.set()
        await here.judge(ends("succeed") | {"stuck": SUCCEEDED, "heard-late": SUCCEEDED})


async def test_conflicts_are_looked_at_anew(run: Open) -> None:
    """F5: every status patch is refused three times, once because somebody did write meanwhile."""
    async with run() as (here, proxy, plan):

        async def somebody_writes(exchange: Exchange) -> web.StreamResponse:
            name = exchange.request.name
            await here.api.patch(path("agenttasks", here.namespace, name), {"metadata": {"annotations": {"touched": "yes"}}})
            return await exchange.forward()

        plan.add(FirstOfEach(match=PATCHES), somebody_writes, times=None)
        plan.add(FirstOfEach(2, PATCHES), answered(409, "Conflict"), times=None)
        await live(here)
        await here.judge(ends())
        patches = Counter(one.key for one in proxy.seen if PATCHES(one))
        assert max(patches.values()) <= 6, f"no hot loop: {patches}"


async def test_what_is_refused_for_good_ends_and_what_passes_is_tried_again(run: Open) -> None:
    """F5: 422 for one pod, 403 for the status of another task for a while, and 404 for one deleted just before."""

    async def is_deleted(exchange: Exchange) -> web.StreamResponse:
        await here.delete("vanishes")
        return await exchange.forward()

    async with run() as (here, proxy, plan):
        plan.add(lambda one: one.key == "POST pods/odd-1", answered(422, "Invalid", 'Pod "odd" is invalid: spec: wrong'))
        plan.add(lambda one: PATCHES(one) and one.name == "shy", answered(403, "Forbidden", "not allowed"), times=3)
        plan.add(lambda one: PATCHES(one) and one.name == "vanishes", is_deleted)
        for name in ("odd", "shy", "vanishes", "fine"):
            await here.create(name)
        rejected = End(phase="Failed", reason="PodRejected", pods=0)
        await here.judge({"odd": rejected, "shy": SUCCEEDED, "vanishes": End(gone=True), "fine": SUCCEEDED})
        patches = Counter(one.key for one in proxy.seen if PATCHES(one))
        assert max(patches.values()) <= 4, f"three refusals: {patches}"
