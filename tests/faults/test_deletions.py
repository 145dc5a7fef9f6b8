"""F12: tasks and namespaces are deleted in every way, and nothing holds them up: there is no finalizer."""

import asyncio

from tests.faults.arena import Open
from tests.faults.checker import End
from tests.faults.eventually import eventually
from tests.faults.lives import LIVES, ends, live
from tests.faults.paths import path
from tests.faults.plan import on
from tests.faults.request_faults import late_request

TASK = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "spec": {"steps": [{"name": "say", "exec": {"command": ["true"]}}]}}


async def test_a_task_is_deleted_in_the_background_in_the_foreground_and_without_its_pod(run: Open) -> None:
    async with run() as (here, _, _):
        ways = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}
        for name in ways:
            await here.create(name, LIVES["deleted"].pods(here))  # type: ignore[misc]
            await here.recorder.until_phase(name, "Running")
        await asyncio.gather(*(here.delete(name, propagation=way) for name, way in ways.items()))
        await here.judge(dict.fromkeys(ways, End(gone=True)))
        left = [pod["metadata"]["labels"]["agenttask.dev/task-name"] for pod in here.recorder.pods()]
        assert left == ["orphan"], "asked for so, and not ours any more"


async def test_tasks_are_deleted_while_nobody_looks(run: Open) -> None:
    async with run() as (here, _, _):
        await here.create("one", LIVES["deleted"].pods(here))  # type: ignore[misc]
        await here.recorder.until_phase("one", "Running")
        await here.controller.stop()
        await here.delete("one")
        await here.recorder.until(lambda: here.recorder.task("one") is None and not here.recorder.pods())
        await here.controller.start()
        await here.controller.ready()
        await here.judge({"one": End(gone=True)})


async def test_a_namespace_goes_away_under_running_and_waiting_tasks(run: Open) -> None:
    """Whatever is still asked for there is refused; it is gone in seconds, and the other namespace's tasks go on."""
    async with run(others=1) as (here, proxy, plan):
        there = f"{here.namespace}-0"
        plan.add(on("POST", "pods", namespace=there), late_request(1.0), times=None)
        for name in ("a", "b", "c"):
            await here.api.create(path("agenttasks", there), {**TASK, "metadata": {"name": name}})
        await proxy.until(lambda seen: sum(one.method == "POST" and one.namespace == there for one in seen) >= 3)
        await here.api.delete(path("namespaces", name=there))
        await live(here, "succeed", "fail")

        async def gone() -> bool:
            for pod in (await here.api.get(path("pods", there)))["items"]:  # nobody runs a kubelet for them
                await here.api.delete(path("pods", there, pod["metadata"]["name"]), grace=0)
            return await here.api.find(path("namespaces", name=there)) is None

        await eventually(gone, what="the end of the namespace")
        await here.judge(ends("succeed", "fail"))
        assert here.controller.restarts == 0
