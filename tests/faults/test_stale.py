"""F8: a list of yesterday, and another task under the name of one that was deleted."""

import asyncio

from tests.fakes.kubelet import FakePod, said
from tests.faults.arena import Open
from tests.faults.lives import SUCCEEDED
from tests.faults.paths import path
from tests.faults.plan import listing, on, watching
from tests.faults.request_faults import refused, time_travel
from tests.faults.stream_faults import bookmarks_only


async def test_a_controller_that_starts_in_the_past_makes_no_second_pod(run: Open) -> None:
    """The lists are those before the pods were made, and the watches stay behind: its POSTs meet the pods that are there."""
    async with run() as (here, proxy, plan):
        before = (await here.api.get(path("pods", here.namespace)))["metadata"]["resourceVersion"]
        finish = asyncio.Event()

        async def when_told(pod: FakePod) -> None:
            await pod.start()
            await finish.wait()
            await pod.end(said(pod.attempt))

        status = on("PATCH", "agenttasks", subresource="status")
        plan.add(lambda one: status(one) and one.name == "runs", refused, times=None)  # nobody has put its pod on record
        await here.create("runs", when_told)
        await here.create("ended")
        await here.recorder.until_phase("ended", "Succeeded")
        await here.recorder.until(lambda: here.recorder.pods("runs"))
        await here.controller.stop()
        plan.clear()
        release = asyncio.Event()
        plan.add(listing("pods"), time_travel(before), times=None)
        plan.add(watching("pods"), bookmarks_only(release), times=None)
        await here.controller.start()
        await here.controller.ready()
        await proxy.until(lambda seen: sum(one.key == "POST pods/runs-1" for one in seen) >= 2)
        finish.set()
        await asyncio.sleep(1.0)
        release.set()
        plan.clear()
        await here.judge({"runs": SUCCEEDED, "ended": SUCCEEDED})


async def test_tasks_of_the_past_are_not_finished_twice(run: Open) -> None:
    """The list shows tasks as they were before they ended: what is final stays, and their pods are not made again."""
    async with run() as (here, proxy, plan):
        before = (await here.create("one"))["metadata"]["resourceVersion"]
        await here.recorder.until_phase("one", "Succeeded")
        await here.controller.stop()
        written = sum(one.method == "PATCH" for one in proxy.seen)
        behind = asyncio.Event()
        plan.add(listing("agenttasks"), time_travel(before), times=2)
        plan.add(watching("agenttasks"), bookmarks_only(behind), times=None)
        await here.controller.start()
        await proxy.until(lambda seen: sum(one.method == "PATCH" for one in seen) > written)
        plan.clear()
        behind.set()
        await here.judge({"one": SUCCEEDED})


async def test_a_finished_task_of_the_past_whose_pod_is_gone_is_not_run_again(run: Open) -> None:
    """The lists are those before it ended, and its pod was deleted since: it looks lost, and is done."""
    async with run() as (here, proxy, plan):
        release = asyncio.Event()

        async def when_told(pod: FakePod) -> None:
            await pod.start()
            await release.wait()
            await pod.end(said(pod.attempt))

        await here.create("one", when_told)
        await here.recorder.until_phase("one", "Running")
        before = (await here.api.get(path("agenttasks", here.namespace)))["metadata"]["resourceVersion"]
        release.set()
        await here.recorder.until_phase("one", "Succeeded")
        await here.controller.stop()
        await here.api.delete(path("pods", here.namespace, here.recorder.pods("one")[0]["metadata"]["name"]), grace=0)
        await here.recorder.until(lambda: not here.recorder.pods("one"))
        plan.add(listing("agenttasks"), time_travel(before), times=2)
        behind = asyncio.Event()
        plan.add(watching("agenttasks"), bookmarks_only(behind), times=None)
        written = len([one for one in proxy.seen if one.mutating])
        await here.controller.start()
        await proxy.until(lambda seen: len([one for one in seen if one.mutating]) > written)
        await asyncio.sleep(2.0)
        assert len([one for one in proxy.seen if one.mutating]) - written < 10, "what it writes is refused, and not tried in a loop"
        plan.clear()
        behind.set()
        await here.judge({"one": SUCCEEDED})
        assert len(here.recorder.ever("one")) == 1


async def test_a_task_made_anew_under_its_name_in_mid_run_gets_its_own_pod_and_result(run: Open) -> None:
    """The old one's pod ends late, with a result that must reach nobody; the controller learns of all of it at once."""
    async with run() as (here, proxy, plan):
        ended = asyncio.Event()

        async def first(pod: FakePod) -> None:
            await pod.start()
            await ended.wait()

        old = await here.create("twin", first)
        await here.recorder.until_phase("twin", "Running")
        release = asyncio.Event()
        plan.add(watching(), bookmarks_only(release), times=None)
        watches = sum(one.watch for one in proxy.seen)
        await here.controller.kill()
        await here.controller.ready()
        await proxy.until(lambda seen: {"agenttasks", "pods"} <= {one.plural for one in [each for each in seen if each.watch][watches:]})
        # The old pod's last words are a success that belongs to a task that is no more.
        pod = next(one for one in here.kubelet.pods.values() if one.task == "twin")
        await here.delete("twin", propagation="Orphan")
        await pod.end(said(1, "of the old one"))
        ended.set()
        here.scripts.pop("twin")
        await here.recorder.until(lambda: here.recorder.task("twin") is None)
        await here.create("twin")
        release.set()
        plan.clear()
        history = await here.judge({"twin": SUCCEEDED})
        assert here.recorder.task("twin")["metadata"]["uid"] != old["metadata"]["uid"]
        assert len(set(here.recorder.ever("twin"))) == 2
        assert not any("of the old one" in str(one.sent) for one in history.ours if one.code < 300)
