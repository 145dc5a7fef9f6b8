"""Queues that go away and come back, on a real API server."""

import asyncio

from tests.fakes.kubelet import FakePod, said
from tests.faults.api import Object
from tests.faults.arena import Open
from tests.faults.checker import End
from tests.faults.eventually import eventually
from tests.faults.lives import SUCCEEDED
from tests.faults.paths import path


def queue(name: str) -> Object:
    """An AgentQueue where one runs at a time."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentQueue", "metadata": {"name": name}, "spec": {"concurrency": 1}}


async def test_a_queue_is_deleted_with_tasks_in_it(run: Open) -> None:
    """What runs goes on and ends, what waits says why, and goes when the queue is there again."""
    async with run() as (here, _, _):
        finish = asyncio.Event()

        async def when_told(pod: FakePod) -> None:
            await pod.start()
            await finish.wait()
            await pod.end(said(pod.attempt))

        where = path("agentqueues", here.namespace)
        await here.api.create(where, queue("line"))
        await here.create("runs", when_told, queue="line")
        await here.recorder.until_phase("runs", "Running")
        await here.create("waits", queue="line")
        await here.recorder.until(lambda: here.recorder.status("waits").get("reason") == "QueueFull")
        await here.api.delete(f"{where}/line")
        await here.recorder.until(lambda: here.recorder.status("waits").get("reason") == "UnknownQueue")
        assert here.recorder.status("runs")["phase"] == "Running"
        finish.set()
        await here.recorder.until_phase("runs", "Succeeded")
        assert here.recorder.ever("waits") == []
        await here.api.create(where, queue("line"))

        async def at_rest() -> bool:
            status = (await here.api.get(f"{where}/line")).get("status", {})
            return (status.get("observedGeneration"), status.get("running"), status.get("pending")) == (1, 0, 0)

        await here.recorder.until_phase("waits", "Succeeded")
        await eventually(at_rest, what="the queue's status")
        await here.judge({"runs": SUCCEEDED, "waits": SUCCEEDED})


async def test_a_pod_whose_task_was_deleted_while_nobody_looked_counts_for_its_model(run: Open) -> None:
    """Its node does not tell its end, and the model serves one task at a time."""
    ask = [{"name": "ask", "chat": {"model": "small", "prompt": "x"}}]
    async with run() as (here, _, _):

        async def node_goes(pod: FakePod) -> None:
            pod.lost = True  # from the moment that it is seen to run
            await pod.start()
            await asyncio.Event().wait()

        spec = {"client": "scripted", "model": "none", "limits": {"concurrentCalls": 1}}
        model = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": "small"}, "spec": spec}
        await here.api.create(path("agentmodels", here.namespace), model)
        await here.create("gone", node_goes, steps=ask)
        await here.recorder.until_phase("gone", "Running")
        (pod,) = here.kubelet.pods.values()
        await here.controller.stop()
        await here.delete("gone")
        await here.recorder.until(lambda: "deletionTimestamp" in here.recorder.pods("gone")[0]["metadata"])
        await here.controller.start()
        await here.controller.ready()
        await here.create("waits", steps=ask)
        await here.recorder.until(lambda: here.recorder.status("waits").get("reason") == "ModelFull")
        await pod.vanish()
        await here.judge({"gone": End(gone=True), "waits": SUCCEEDED})
