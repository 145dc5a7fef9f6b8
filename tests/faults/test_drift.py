"""F14: others change what is ours, and have things that look like ours."""

import asyncio
import hashlib
from typing import Any

from tests.fakes.kubelet import FakePod, said
from tests.faults.api import Object
from tests.faults.arena import Arena, Open
from tests.faults.checker import End, owner
from tests.faults.lives import SUCCEEDED, ends, live
from tests.faults.paths import path
from tests.faults.soak import SOAK

MANAGED = {"app.kubernetes.io/managed-by": "agenttask"}


def foreign(name: str, **metadata: Any) -> Object:
    """A pod of somebody else."""
    spec = {"containers": [{"name": "runner", "image": "other:1"}], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


async def untouched(here: Arena, pod: Object) -> None:
    """The pod is as it was made."""
    now = await here.api.find(path("pods", here.namespace, pod["metadata"]["name"]))
    assert now is not None
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    assert (now["spec"], now["metadata"].get("labels")) == (pod["spec"], pod["metadata"].get("labels"))
    assert "deletionTimestamp" not in now["metadata"]


async def test_pods_of_others_are_left_alone(run: Open) -> None:
    """With our labels, with a task's labels, with an owner of our kind that does not exist."""
    async with run() as (here, _, _):
        await live(here, "long")
        uid = (await here.api.get(path("agenttasks", here.namespace, "long")))["metadata"]["uid"]
        labels = MANAGED | {"agenttask.dev/attempt": "1", "agenttask.dev/task-name": "long"}
        pods = [
            await here.api.create(path("pods", here.namespace), foreign("labelled", labels=labels)),
            await here.api.create(path("pods", here.namespace), foreign("claims", labels=labels | {"agenttask.dev/task": uid})),
        ]
        await here.judge(ends("long"))
        for pod in pods:
            await untouched(here, pod)


async def test_a_pod_that_has_the_name_and_is_not_ours(run: Open) -> None:
    """The task says so and ends; the pod is not adopted, not deleted."""
    async with run() as (here, _, _):
        await here.controller.stop()
        task = await here.create("taken")
        name = f"taken-{hashlib.sha256(task['metadata']['uid'].encode()).hexdigest()[:10]}-1"
        pod = await here.api.create(path("pods", here.namespace), foreign(name, labels=MANAGED))
        await here.controller.start()
        await here.judge({"taken": End(phase="Failed", reason="PodRejected", pods=0)})
        assert name in here.recorder.status("taken")["message"]
        await untouched(here, pod)


async def _drifts(here: Arena, name: str, change: Object) -> FakePod:
    """A task whose running pod is changed by somebody; it has not ended yet."""

    async def script(pod: FakePod) -> None:
        await pod.start()
        if pod.attempt > 1:
            await pod.end(said(pod.attempt))

    await here.create(name, script, retry={"backoff": {"initialSeconds": 1}})
    await here.recorder.until_phase(name, "Running")
    pod = next(one for one in here.kubelet.pods.values() if one.task == name)
    await here.api.patch(path("pods", here.namespace, pod.name), change)
    await asyncio.sleep(1.0)
    return pod


async def test_labels_of_a_running_pod_are_stomped(run: Open) -> None:
    """It leaves our watch, and it lives: no second pod beside it, and its result counts."""
    async with run() as (here, _, _):
        pod = await _drifts(here, "stomped", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}})
        assert here.recorder.status("stomped")["phase"] == "Running"
        if not SOAK:  # what the watch does not show is asked for every half minute
            await here.api.patch(path("pods", here.namespace, pod.name), {"metadata": {"labels": MANAGED}})
        await pod.end(said())
        await here.judge({"stomped": SUCCEEDED})


async def test_a_running_pod_loses_its_owner(run: Open) -> None:
    """It is nobody's then: its attempt counts as lost, another one follows, and whoever took the pod away keeps it."""
    async with run() as (here, _, _):
        pod = await _drifts(here, "robbed", {"metadata": {"ownerReferences": None}})
        await here.judge({"robbed": End(phase="Succeeded", reason="Succeeded", output="done", pods=2)})
        body = await here.api.find(path("pods", here.namespace, pod.name))
        assert body is not None
        assert not owner(body)
        assert "deletionTimestamp" not in body["metadata"]
