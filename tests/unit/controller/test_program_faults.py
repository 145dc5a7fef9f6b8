"""The whole controller when the API server, its watches, or a plugin fail: nothing lost, nothing twice, no ghosts."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from tests.fakes.apiserver import FakeApiServer, PodRun
from tests.fakes.controller_program import asking, ended, model, node, phase, program, said, status, success, task

from agenttask.controller import reflector
from agenttask.controller.backoff import Backoff
from agenttask.controller.pod_name import pod_name
from agenttask.plugin.device import Choice, DeviceRequest, Stock
from agenttask.plugin.registry import Catalogue, load

GPU = 'deviceClasses=[{name: gpu, kind: cuda, resources: {"nvidia.com/gpu": 1}}, {name: cpu}]'

ONCE = {"maxInfrastructureRestarts": 0}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.3) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        yield server


def methods(server: FakeApiServer) -> list[str]:
    return [method for method, _ in server.writes]


async def running_pod(server: FakeApiServer) -> str:
    """The name of the one pod, once it runs."""
    await server.until(lambda: server.objects("pods") and server.objects("pods")[0]["status"]["phase"] == "Running")
    return str(server.objects("pods")[0]["metadata"]["name"])


# ---- answers that go wrong


@pytest.mark.usefixtures("only_ends")
async def test_a_conflict_on_status_looks_again(server: FakeApiServer) -> None:
    server.fail_next("PATCH", "/status$", 409)
    async with program(server):
        server.put("agenttasks", task("a"))
        found = await ended(server, "a")

    assert found["phase"] == "Succeeded"
    assert methods(server) == ["POST", "PATCH", "PATCH"]


@pytest.mark.usefixtures("only_ends")
async def test_a_status_whose_answer_was_lost_is_not_written_over(server: FakeApiServer) -> None:
    server.fail_next("PATCH", "/status$", 0, after_commit=True)
    async with program(server) as controller:
        server.put("agenttasks", task("a"))
        found = await ended(server, "a")
        await server.until(lambda: not len(controller._world.tasks))
        await asyncio.sleep(0.3)

    assert status(server, "a") == found
    assert methods(server)[:2] == ["POST", "PATCH"]
    assert len(server.objects("pods")) == 1


@pytest.mark.usefixtures("only_ends")
@pytest.mark.parametrize("code", [0, 500, 504])
async def test_a_pod_whose_answer_was_lost_is_not_made_twice(server: FakeApiServer, code: int) -> None:
    server.fail_next("POST", "/pods$", code, after_commit=True)
    async with program(server):
        server.put("agenttasks", task("a"))
        found = await ended(server, "a")

    assert (found["phase"], len(server.objects("pods"))) == ("Succeeded", 1)
    assert [line for line in server.writes if line[0] == "PATCH"] == server.writes[-1:]


@pytest.mark.usefixtures("only_ends")
async def test_a_pod_of_an_earlier_try_is_adopted(server: FakeApiServer) -> None:
    made = server.put("agenttasks", task("a"))
    name = pod_name("a", made["metadata"]["uid"], 1)
    owner = {"kind": "AgentTask", "apiVersion": "agenttask.dev/v1alpha1", "name": "a", "uid": made["metadata"]["uid"], "controller": True}
    container = {"name": "runner", "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": said("before")}}}
    server.kubelet.auto_run(None)
    # Without its label the watch does not show it: as if the watch were late.
    server.put("pods", {"metadata": {"name": name, "ownerReferences": [owner]}, "status": {"containerStatuses": [container]}})
    async with program(server):
        found = await ended(server, "a")

    assert (found["phase"], found["output"]) == ("Succeeded", "before")
    assert methods(server) == ["POST", "PATCH"]


async def test_a_strangers_pod_of_the_same_name_is_left_alone(server: FakeApiServer) -> None:
    made = server.put("agenttasks", task("a"))
    name = pod_name("a", made["metadata"]["uid"], 1)
    server.kubelet.auto_run(None)
    server.put("pods", {"metadata": {"name": name}})
    async with program(server):
        found = await ended(server, "a")

    assert (found["phase"], found["reason"]) == ("Failed", "PodRejected")
    assert f"a pod {name} exists and is not this task's" in found["message"]
    assert len(server.objects("pods")) == 1
    assert "DELETE" not in methods(server)


@pytest.mark.usefixtures("only_ends")
async def test_too_many_requests_waits_as_long_as_the_server_asks(server: FakeApiServer) -> None:
    server.fail_next("POST", "/pods$", 429, retry_after=1)
    async with program(server):
        began = time.monotonic()
        server.put("agenttasks", task("a"))
        await ended(server, "a")
        took = time.monotonic() - began

    assert 1.0 <= took < 30.0
    assert methods(server) == ["POST", "POST", "PATCH"]


async def test_a_quota_makes_it_wait_and_admission_refuses_it_for_good(server: FakeApiServer) -> None:
    server.fail_next("POST", "/pods$", 403, times=3, message="pods is forbidden: exceeded quota: small, requested: pods=1")
    async with program(server):
        server.put("agenttasks", task("a"))
        waits = await phase(server, "a", "Queued")
        await ended(server, "a")
        server.fail_next("POST", "/pods$", 403, message='violates PodSecurity "restricted:latest"')
        server.put("agenttasks", task("b"))
        refused = await ended(server, "b")

    assert (waits["reason"], "exceeded quota" in waits["message"]) == ("Unschedulable", True)
    assert (refused["reason"], "restricted" in refused["message"]) == ("PodRejected", True)


@pytest.mark.usefixtures("only_ends")
async def test_a_task_deleted_before_its_status_is_written_costs_one_write(server: FakeApiServer) -> None:
    server.kubelet.auto_run(None)
    async with program(server) as controller:
        server.put("agenttasks", task("a"))
        await server.until(lambda: server.objects("pods"))
        server.fail_next("PATCH", "/status$", 200, delay=0.3)
        server.kubelet.end(server.objects("pods")[0]["metadata"]["name"], said())
        await server.until(lambda: "PATCH" in methods(server))
        server.remove("agenttasks", "a")
        await server.until(lambda: not len(controller._world.tasks))
        await asyncio.sleep(0.4)

    assert methods(server) == ["POST", "PATCH"]
    assert server.objects("pods") == []


# ---- watches that break


@pytest.mark.parametrize("how", ["reset", "clean", "half a line", "compacted"])
async def test_a_broken_watch_goes_on(server: FakeApiServer, how: str) -> None:
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server):
        server.put("agenttasks", task("a"))
        name = await running_pod(server)
        server.drop_watches(clean=how == "clean", rest=b'{"type": "MODIF' if how == "half a line" else b"")
        if how == "compacted":
            server.put("configmaps", {"metadata": {"name": "later"}})
            server.compact()
        server.kubelet.end(name, said("after"))
        server.put("agenttasks", asking("b", "small"))
        server.put("agentmodels", model("small"))
        found = await ended(server, "a")
        await server.until(lambda: len(server.objects("pods")) == 2)

    assert found["output"] == "after"


async def test_a_pod_that_went_while_nobody_watched_is_no_ghost(server: FakeApiServer) -> None:
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server):
        server.put("agenttasks", task("a", retry=ONCE))
        name = await running_pod(server)
        server.fail_next("GET", "/pods", 503, times=2)
        server.drop_watches()
        server.remove("pods", name)
        server.compact()
        found = await ended(server, "a")

    assert (found["phase"], found["reason"]) == ("Failed", "Lost")
    assert methods(server)[0] == "POST"
    assert methods(server).count("POST") == 1


async def test_watches_that_fell_silent_are_opened_anew(server: FakeApiServer) -> None:
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server, stream_silence=1.0):
        server.put("agenttasks", task("a"))
        name = await running_pod(server)
        server.stall_watches()
        server.kubelet.end(name, said("unseen"))
        server.put("agenttasks", task("b"))
        found = await ended(server, "a")
        await server.until(lambda: len(server.objects("pods")) == 2)

    assert found["output"] == "unseen"


# ---- starting anew


@pytest.mark.usefixtures("only_ends")
async def test_a_restart_repeats_nothing_and_loses_nothing(server: FakeApiServer) -> None:
    server.put("agenttasks", task("final") | {"status": {"phase": "Succeeded"}})
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server):
        server.put("agenttasks", task("a"))
        name = await running_pod(server)
    server.kubelet.end(name, said("while nobody looked"))
    server.kubelet.auto_run(success)
    server.put("agenttasks", task("b"))
    async with program(server):
        found = await ended(server, "a")
        await ended(server, "b")

    assert found["output"] == "while nobody looked"
    assert sorted(methods(server)) == ["PATCH", "PATCH", "POST", "POST"]


async def test_a_pod_lost_while_nobody_watched_is_not_run_again_where_the_task_forbids_it(server: FakeApiServer) -> None:
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server):
        server.put("agenttasks", task("a", execution={"atMostOnce": True}))
        await phase(server, "a", "Running")
    server.remove("pods", server.objects("pods")[0]["metadata"]["name"])
    async with program(server):
        found = await ended(server, "a")

    assert (found["reason"], server.objects("pods")) == ("Lost", [])
    assert methods(server).count("POST") == 1


async def test_a_task_that_may_run_once_waits_under_a_quota_from_one_controller_to_the_next(server: FakeApiServer) -> None:
    server.fail_next("POST", "/pods$", 403, times=10_000, message="pods is forbidden: exceeded quota: small, requested: pods=1")
    async with program(server):
        server.put("agenttasks", task("a", execution={"atMostOnce": True}))
        await server.until(lambda: status(server, "a").get("reason") == "Unschedulable")
    server.heal()
    server.kubelet.auto_run(success)
    async with program(server):
        found = await ended(server, "a")

    assert (found["phase"], found["attempt"], len(server.objects("pods"))) == ("Succeeded", 1, 1)


async def test_the_first_lists_may_fail_for_a_while(server: FakeApiServer) -> None:
    server.fail_next("GET", "/agentmodels", 503)
    server.fail_next("GET", "/configmaps", 503)
    async with program(server, wait_until_ready=False) as controller:
        assert controller.ready() == "the first lists are not complete"
        server.put("agenttasks", task("a"))
        await ended(server, "a")
        assert (controller.ready(), controller.alive()) == (None, None)


# ---- rights and plugins


async def test_forbidden_nodes_leave_the_inventory_unknown_until_they_are_granted(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "REFUSED", Backoff(initial=0.2, maximum=0.2))
    server.fail_next("GET", "/nodes", 403, times=10_000)
    wish = {"classes": ["gpu", "cpu"]}
    async with program(server, GPU) as controller:
        server.put("agenttasks", task("a", device=wish))
        found = await ended(server, "a")
        server.heal()
        await server.until(lambda: controller._nodes is not None and controller._nodes.synced.is_set())
        server.put("agenttasks", task("b", device=wish))
        then = await ended(server, "b")
        assert controller.alive() is None

    assert (found["phase"], then["phase"]) == ("Succeeded", "Succeeded")
    assert (found["device"]["class"], then["device"]["class"]) == ("gpu", "cpu")


async def test_without_nodes_none_are_asked_for(server: FakeApiServer) -> None:
    async with program(server, "nodes=false"):
        server.put("agenttasks", task("a"))
        await ended(server, "a")

    assert not [path for _, path in server.requests if "/nodes" in path]


class Broken:
    """A third party's strategy with a bug."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> list[Choice]:
        raise ZeroDivisionError("of all things")


async def test_a_strategy_that_raises_fails_its_task_alone(server: FakeApiServer) -> None:
    plugins = load()
    known = {name: plugins.device_strategies.choose(name) for name in plugins.device_strategies.names}
    plugins.device_strategies = Catalogue("device strategy", {**known, "broken": Broken})
    async with program(server, plugins=plugins):
        server.put("agenttasks", task("a", device={"strategy": "broken"}))
        server.put("agenttasks", task("b"))
        broken, fine = await ended(server, "a"), await ended(server, "b")

    assert (broken["phase"], broken["reason"]) == ("Failed", "DeviceUnavailable")
    assert "ZeroDivisionError: of all things" in broken["message"]
    assert fine["phase"] == "Succeeded"
