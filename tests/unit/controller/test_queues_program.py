"""Queues under the whole controller, on the fake API server: never more than may run, also over a restart, and few writes."""

import time
from typing import Any

import pytest
from tests.fakes.apiserver import FakeApiServer, PodRun
from tests.fakes.apiserver_store import Change
from tests.fakes.controller_program import asking, ended, model, node, phase, program, said, status, success, task

from agenttask.api.constants import LABEL_QUEUE
from agenttask.controller import line_keeper
from agenttask.domain import moment

RUN = PodRun(message=said(), run_seconds=0.05)


def queue(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def owner(pod: dict[str, Any]) -> str:
    """The name of a pod's task."""
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def pods_of(server: FakeApiServer, *names: str) -> list[dict[str, Any]]:
    """The pods of these tasks."""
    return [pod for pod in server.objects("pods") if owner(pod) in names]


async def passes(server: FakeApiServer, name: str) -> None:
    """A task of another queue comes and gets its pod: what had happened before, the controller has looked at."""
    server.put("agenttasks", task(name))
    await server.until(lambda: pods_of(server, name))


class Watchman:
    """Counts the pods of a queue whose container has not ended, at every change of one."""

    def __init__(self, server: FakeApiServer, queue: str = "") -> None:
        self._queue = queue
        self._live: set[str] = set()
        self.most = 0
        self.order: list[str] = []
        server.store.listeners.append(self._seen)

    def _seen(self, change: Change) -> None:
        if change.resource.plural != "pods":
            return
        seen = change.after or change.before or {}
        if self._queue and seen["metadata"]["labels"].get(LABEL_QUEUE) != self._queue:
            return
        name = owner(seen)
        if change.after is None or seen.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self._live.discard(name)
        else:
            if change.before is None:
                self.order.append(name)
            self._live.add(name)
        self.most = max(self.most, len(self._live))


async def test_never_more_run_than_may_and_all_of_them_in_the_end() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(None)
        watchman = Watchman(server)
        server.put("agentqueues", queue("three", concurrency=3))
        async with program(server, "maxRunningTasks=5"):
            for number in range(60):
                server.put("agenttasks", task(f"t{number}", queue="three" if number % 2 else "default"))
            await server.until(lambda: len(server.objects("pods")) == 5)  # else the first could end before the fifth is made
            server.kubelet.auto_run(lambda _: RUN)
            for pod in server.objects("pods"):
                await server.kubelet.run_pod(pod["metadata"]["name"], said())
            await server.until(lambda: all(status(server, f"t{number}").get("phase") == "Succeeded" for number in range(60)), 180)

    assert watchman.most == 5
    assert len(watchman.order) == 60


async def test_a_restart_admits_no_more_than_may_run() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        watchman = Watchman(server, "two")
        server.put("agentqueues", queue("two", concurrency=2))
        for number in range(10):
            server.put("agenttasks", task(f"t{number}", queue="two", priority=number))
        async with program(server):
            await server.until(lambda: len(server.objects("pods")) == 2)
        async with program(server):
            await passes(server, "other")
            server.kubelet.auto_run(success)
            for pod in server.objects("pods"):
                await server.kubelet.run_pod(pod["metadata"]["name"], said())
            await server.until(lambda: all(status(server, f"t{number}").get("phase") == "Succeeded" for number in range(10)))

    assert watchman.most == 2
    assert sorted(watchman.order[:2]) == ["t8", "t9"]  # the first of all, not the first that was listed


async def test_a_priority_that_changes_moves_its_task() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        watchman = Watchman(server, "one")
        server.put("agentqueues", queue("one", concurrency=1, paused=True))
        async with program(server) as controller:
            for number in range(4):
                server.put("agenttasks", task(f"t{number}", queue="one", priority=number))
            await phase(server, "t0", "Queued")
            server.patch("agenttasks", "t0", {"spec": {"priority": 9}})
            tasks, uid = controller._world.tasks, (server.get("agenttasks", "t0") or {})["metadata"]["uid"]
            await server.until(lambda: (known := tasks.get(uid)) and known.spec and known.spec.priority == 9)
            await passes(server, "other")
            server.patch("agentqueues", "one", {"spec": {"paused": False}})
            for number in range(4):
                await ended(server, f"t{number}")

    assert watchman.order == ["t0", "t3", "t2", "t1"]


def told(server: FakeApiServer) -> int:
    """How often the status of a task was written."""
    return sum("/agenttasks/" in path for _, path in server.writes)


async def test_a_long_line_is_told_slowly_and_its_queue_seldom() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.put("agentqueues", queue("still", paused=True))
        async with program(server):
            for number in range(200):
                server.put("agenttasks", task(f"t{number}", queue="still"))
            started = time.monotonic()
            await server.until(lambda: told(server))
            before, began = told(server), time.monotonic()
            await server.until(lambda: told(server) >= before + 10)
            took = time.monotonic() - began
            await server.until(lambda: (server.get("agentqueues", "still") or {}).get("status", {}).get("pending") == 200)
            all_of_it = time.monotonic() - started
            found = [status(server, f"t{number}") for number in range(200)]

    assert took >= 1.0, "ten take two seconds, less what the first came late"
    positions = [one["queuePosition"] for one in found if "queuePosition" in one]
    assert len(positions) == len(set(positions))
    assert {one["reason"] for one in found if one} == {"QueuePaused"}
    assert sum("/agentqueues/" in path for _, path in server.writes) <= 3 + all_of_it / line_keeper.STATUS_SECONDS


async def test_a_queue_that_goes_leaves_what_runs_and_holds_what_waits() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.put("agentqueues", queue("brief", concurrency=1))
        async with program(server):
            server.put("agenttasks", task("runs", queue="brief"))
            await server.until(lambda: server.objects("pods"))
            server.put("agenttasks", task("waits", queue="brief"))
            await phase(server, "waits", "Queued")
            server.remove("agentqueues", "brief")
            await server.until(lambda: status(server, "waits").get("reason") == "UnknownQueue")
            (pod,) = server.objects("pods")
            await server.kubelet.run_pod(pod["metadata"]["name"], said())
            assert (await ended(server, "runs"))["phase"] == "Succeeded"
            assert len(server.objects("pods")) == 1
            server.kubelet.auto_run(success)
            server.put("agentqueues", queue("brief"))
            assert (await ended(server, "waits"))["phase"] == "Succeeded"


async def test_a_class_that_the_queue_may_not_have_is_nothing_to_fall_back_to() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.put("agentqueues", queue("picky", devices={"cpu": 0}))
        classes = "deviceClasses=[{name: big, cost: 2}, {name: small, cost: 1}, {name: cpu}]"
        wishes = {"fallbackAfterSeconds": 1}
        async with program(server, classes):
            server.put("agenttasks", task("stays", queue="picky", device={"classes": ["big", "cpu"], **wishes}))
            server.put("agenttasks", task("falls", queue="picky", device={"classes": ["big", "cpu", "small"], **wishes}))
            await server.until(lambda: len(server.objects("pods")) == 2)
            for pod in server.objects("pods"):
                server.kubelet.unschedulable(pod["metadata"]["name"])
            await server.until(lambda: status(server, "falls").get("endedAttempts") == 1)
            await server.until(lambda: status(server, "falls").get("device", {}).get("class") == "small")
            stays = await phase(server, "stays", "Starting")

    assert (stays["phase"], stays["reason"], stays["device"].get("tried")) == ("Starting", "Unschedulable", None)


async def test_a_device_that_its_node_does_not_give_sends_the_task_to_its_next_class_at_once() -> None:
    """What the kubelet says when a device plugin has no healthy device left: counted as the cluster's failure, it came again and again."""
    classes = "deviceClasses=[{name: gpu, kind: cuda, resources: {example.com/gpu: 1}}, {name: cpu}]"
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", {"metadata": {"name": "node-1"}, "status": {"allocatable": {"example.com/gpu": "1"}}})
        async with program(server, classes):
            server.put("agenttasks", task("a", device={"classes": ["gpu", "cpu"]}, retry={"maxInfrastructureRestarts": 0}))
            await server.until(lambda: server.objects("pods"))
            (pod,) = server.objects("pods")
            server.kubelet.evict(pod["metadata"]["name"], "UnexpectedAdmissionError", "Allocate failed due to no healthy devices present")
            await server.until(lambda: len(server.objects("pods")) == 2)
            server.kubelet.start(server.objects("pods")[1]["metadata"]["name"])
            found = await phase(server, "a", "Running", "Failed")

    assert (found["phase"], found["device"]["class"], found.get("infrastructureRestarts")) == ("Running", "cpu", None)
    assert "no healthy devices" in found["device"]["tried"][0]["verdict"]


GRACEFUL = {"graceful": True, "bookmark_seconds": 0.5}


async def waiting_for_one(server: FakeApiServer) -> str:
    """Two tasks of a queue of one: the first runs, the second waits; the name of the first one's pod."""
    server.put("agenttasks", task("runs", queue="one", activeDeadlineSeconds=100, softDeadlineSeconds=99))
    await server.until(lambda: server.objects("pods"))
    (pod,) = server.objects("pods")
    server.kubelet.start(pod["metadata"]["name"])
    server.put("agenttasks", task("waits", queue="one"))
    await phase(server, "waits", "Queued")
    return str(pod["metadata"]["name"])


@pytest.mark.parametrize("how", ["deleted", "cancelled", "suspended"])
async def test_a_slot_is_taken_until_the_pod_that_is_being_deleted_is_gone(how: str) -> None:
    """The task may be gone at once, its pod has its grace: two of a queue of one were at work side by side."""
    async with FakeApiServer(**GRACEFUL) as server:
        server.put("nodes", node())
        watchman = Watchman(server, "one")
        server.put("agentqueues", queue("one", concurrency=1))
        async with program(server):
            pod = await waiting_for_one(server)
            if how == "deleted":
                server.remove("agenttasks", "runs", graceful=True)
            else:
                server.patch("agenttasks", "runs", {"spec": {"cancel": True} if how == "cancelled" else {"suspend": True}})
            await server.until(lambda: "deletionTimestamp" in server.objects("pods")[0]["metadata"])
            await passes(server, "other")
            server.kubelet.finish_deletion(pod)
            await server.until(lambda: pods_of(server, "waits"))

    assert (watchman.order, watchman.most) == (["runs", "waits"], 1)


async def test_a_controller_that_starts_anew_knows_of_pods_whose_tasks_were_deleted() -> None:
    async with FakeApiServer(**GRACEFUL) as server:
        server.put("nodes", node())
        watchman = Watchman(server, "one")
        server.put("agentqueues", queue("one", concurrency=1))
        async with program(server):
            pod = await waiting_for_one(server)
        server.remove("agenttasks", "runs", graceful=True)
        async with program(server):
            await passes(server, "other")
            server.kubelet.finish_deletion(pod)
            await server.until(lambda: pods_of(server, "waits"))

    assert (watchman.order, watchman.most) == (["runs", "waits"], 1)


@pytest.mark.parametrize("class_", ["cpu", "far"])
async def test_a_controller_that_starts_anew_counts_such_a_pod_for_the_models_that_it_calls(class_: str) -> None:
    """`small` is `large` on the class of kind `remote`; each serves one task at a time."""
    classes = "deviceClasses=[{name: cpu}, {name: far, kind: remote}]"
    called = "large" if class_ == "far" else "small"
    async with FakeApiServer(**GRACEFUL) as server:
        server.put("nodes", node())
        local = {"client": "local", "local": {"package": "weights", "remoteModel": "large"}, "limits": {"concurrentCalls": 1}}
        server.put("agentmodels", model("small", **local))
        server.put("agentmodels", model("large", limits={"concurrentCalls": 1}))
        async with program(server, classes):
            server.put("agenttasks", asking("runs", "small", device={"classes": [class_]}))
            await server.until(lambda: server.objects("pods"))
            (pod,) = server.objects("pods")
            server.kubelet.start(pod["metadata"]["name"])
        server.remove("agenttasks", "runs", graceful=True)
        async with program(server, classes):
            server.put("agenttasks", asking("waits", called))
            waits = await phase(server, "waits", "Queued")
            server.kubelet.finish_deletion(pod["metadata"]["name"])
            await server.until(lambda: pods_of(server, "waits"))

    assert pod["metadata"]["annotations"]["agenttask.dev/models"] == f'["{called}"]'
    assert (waits["reason"], waits["message"]) == (
        "ModelFull",
        f"AgentModel '{called}': 1 tasks use it, of at most 1: limits.concurrentCalls is 1",
    )


async def test_a_lost_node_gives_its_slot_back_when_its_pods_count_as_lost() -> None:
    async with FakeApiServer(**GRACEFUL) as server:
        server.put("nodes", node())
        server.put("agentqueues", queue("one", concurrency=1))
        async with program(server, "nodeLostSeconds=3"):
            await waiting_for_one(server)
            server.remove("agenttasks", "runs", graceful=True)
            await server.until(lambda: len(server.objects("pods")) == 2)
            ((lost,), (made,)) = (pods_of(server, name) for name in ("runs", "waits"))

    ends, began = moment.parse(lost["metadata"]["deletionTimestamp"]), moment.parse(made["metadata"]["creationTimestamp"])
    assert ends is not None
    assert began is not None
    assert began >= ends + 3
