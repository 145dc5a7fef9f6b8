"""The whole controller on input that is wrong in itself: settings that lost a class, runners and nodes that lie, namesakes in mid-run."""

import datetime as dt
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import ended, phase, program, said, status, task

from agenttask.api import report as reports
from agenttask.api.report import Report, StepReport, UsageReport
from agenttask.controller.kube_paths import pods_path

WITH_GPU = 'deviceClasses=[{name: gpu, kind: cuda, resources: {"nvidia.com/gpu": 1}}, {name: cpu}]'
WITHOUT_GPU = "deviceClasses=[{name: cpu}]"
ONCE = {"limit": 0, "maxInfrastructureRestarts": 0}
OFF_SECONDS = 600


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put(
            "nodes", {"metadata": {"name": "node-1"}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}}}
        )
        yield server


async def pod_of(server: FakeApiServer, name: str) -> str:
    """The name of the task's only pod, once there is one."""

    def found() -> list[str]:
        pods = server.objects("pods")
        return [one["metadata"]["name"] for one in pods if one["metadata"]["ownerReferences"][0]["name"] == name]

    await server.until(found)
    (pod,) = found()
    return pod


# ---- an upgrade that takes a device class away


async def test_a_class_that_an_upgrade_took_away_ends_no_running_task_and_is_told_to_the_others(server: FakeApiServer) -> None:
    async with program(server, WITH_GPU):
        server.put("agenttasks", task("runs", device={"classes": ["gpu"]}))
        server.put("agenttasks", task("waits", device={"classes": ["gpu"]}))
        server.kubelet.start(await pod_of(server, "runs"))
        assert (await phase(server, "waits", "Queued"))["reason"] == "WaitingForDevice"
    async with program(server, WITHOUT_GPU):
        await server.until(lambda: status(server, "waits").get("reason") == "UnknownClass")
        server.kubelet.end(await pod_of(server, "runs"), said("of the gpu"))
        found = await ended(server, "runs")
    assert "'gpu'" in status(server, "waits")["message"]
    assert (found["phase"], found["output"], found["device"]["class"]) == ("Succeeded", "of the gpu", "gpu")
    async with program(server, WITH_GPU):
        server.kubelet.auto_run(None)
        server.kubelet.start(await pod_of(server, "waits"))
        await phase(server, "waits", "Running")


async def test_an_attempt_that_failed_before_the_class_went_waits_for_it(server: FakeApiServer) -> None:
    retry = {"limit": 1, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
    async with program(server, WITH_GPU):
        server.put("agenttasks", task("again", device={"classes": ["gpu"]}, retry=retry))
        pod = await pod_of(server, "again")
        server.kubelet.start(pod)
        await phase(server, "again", "Running")
    server.kubelet.end(pod, exit_code=1)
    async with program(server, WITHOUT_GPU):
        await server.until(lambda: status(server, "again").get("reason") == "UnknownClass")
        found = status(server, "again")
    assert (found["phase"], found["endedAttempts"], found["failures"]) == ("Queued", 1, 1)


# ---- what waits behind what does not fit


async def test_a_task_that_no_device_is_free_for_blocks_none_that_needs_none(server: FakeApiServer) -> None:
    async with program(server, WITH_GPU):
        server.put("agenttasks", task("holds", device={"classes": ["gpu"]}))
        server.kubelet.start(await pod_of(server, "holds"))
        server.put("agenttasks", task("head", device={"classes": ["gpu"]}, priority=1000))
        waits = await phase(server, "head", "Queued")
        began = time.monotonic()
        server.put("agenttasks", task("behind", device={"classes": ["cpu"]}, priority=-1000))
        await pod_of(server, "behind")
        took = time.monotonic() - began
    assert took < 10  # nothing looks at it again so soon
    assert (waits["reason"], waits["queuePosition"]) == ("WaitingForDevice", 1)
    assert "gpu" in waits["message"]
    assert len(server.objects("pods")) == 2


# ---- runners that lie


@pytest.mark.parametrize("attempt", [0, 2, 99])
async def test_the_report_of_another_attempt_is_none_of_this_one(server: FakeApiServer, attempt: int) -> None:
    message = reports.encode(Report(done=True, attempt=attempt, started=1, steps=(StepReport(0, "S", 0, 5),), output="stolen")).decode()
    async with program(server):
        server.put("agenttasks", task("a", retry=ONCE))
        await server.kubelet.run_pod(await pod_of(server, "a"), message)
        found = await ended(server, "a")
    assert (found["phase"], found["reason"]) == ("Failed", "RunnerCrashed")
    assert "output" not in found


async def test_the_report_of_another_task_shows_no_steps_that_this_one_has_not(server: FakeApiServer) -> None:
    steps = tuple(StepReport(index, "S", 0, 5, f"of step {index}") for index in (0, 1, 7, 63))
    usage = UsageReport(2**53, 2**53, 2**53, "-1 EUR; free")
    message = reports.encode(Report(done=True, started=2**53, steps=steps, usage=usage, output="x")).decode()
    async with program(server):
        server.put("agenttasks", task("a", retry=ONCE))
        await server.kubelet.run_pod(await pod_of(server, "a"), message)
        found = await ended(server, "a")
    assert [one["name"] for one in found["steps"]] == ["say"]
    assert (found["progress"], found["usage"].get("cost")) == ("1/1", None)
    assert found["completionTime"] <= dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_a_report_that_names_anothers_stored_output_is_no_success(server: FakeApiServer) -> None:
    server.put("agenttaskrecords", {"metadata": {"name": "b"}, "task": "b", "taskUID": "other", "attempt": 1, "output": "stolen"})
    message = reports.encode(Report(done=True, started=1, steps=(StepReport(0, "S", 0, 5),), output_stored=True)).decode()
    async with program(server):
        server.put("agenttasks", task("a", retry=ONCE))
        await server.kubelet.run_pod(await pod_of(server, "a"), message)
        found = await ended(server, "a")
    assert (found["phase"], found["reason"]) == ("Failed", "RunnerCrashed")
    assert "stolen" not in str(found)


# ---- nodes whose clock is off


@pytest.mark.parametrize("off", [-OFF_SECONDS, OFF_SECONDS], ids=["ten minutes behind", "ten minutes ahead"])
async def test_a_node_with_a_wrong_clock_runs_tasks_like_any_other(server: FakeApiServer, off: int) -> None:
    def there(seconds: float = 0.0) -> str:
        return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=off + seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def container(state: dict[str, Any]) -> dict[str, Any]:
        return {"containerStatuses": [{"name": "runner", "ready": False, "restartCount": 0, "state": state}]}

    async with program(server):
        made = server.put("agenttasks", task("a", activeDeadlineSeconds=60))
        pod, began = await pod_of(server, "a"), there()
        server.kubelet.set_status(pod, {"phase": "Running", "startTime": began, **container({"running": {"startedAt": began}})})
        shown = await phase(server, "a", "Running")
        assert server.get("pods", pod) is not None
        state = {"exitCode": 0, "reason": "Completed", "message": said("fine"), "startedAt": began, "finishedAt": there()}
        server.kubelet.set_status(pod, {"phase": "Succeeded", **container({"running": None, "terminated": state})})
        found = await ended(server, "a")
    assert (found["phase"], found["output"], "DELETE" in [method for method, _ in server.writes]) == ("Succeeded", "fine", False)
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    created = made["metadata"]["creationTimestamp"]
    assert created <= found["startTime"] <= found["completionTime"] <= now
    assert all(created <= one["lastTransitionTime"] <= now for one in (*shown["conditions"], *found["conditions"]))
    assert 0 <= found.get("activeSeconds", 0) < 60


# ---- namesakes


async def test_a_task_made_anew_under_its_name_in_mid_run_has_nothing_of_the_old_one(server: FakeApiServer) -> None:
    async with program(server):
        server.put("agenttasks", task("twin"))
        old = await pod_of(server, "twin")
        server.kubelet.start(old)
        await phase(server, "twin", "Running")
        server.remove("agenttasks", "twin", graceful=True)  # its pod is Terminating, and takes its time
        server.put("agenttasks", task("twin"))
        await server.until(lambda: len(server.objects("pods")) == 2)
        (new,) = [one["metadata"]["name"] for one in server.objects("pods") if one["metadata"]["name"] != old]
        server.kubelet.end(old, said("of the old one"))
        server.kubelet.finish_deletion(old)
        server.kubelet.start(new)
        shown = await phase(server, "twin", "Running")
        server.kubelet.end(new, said("of the new one"))
        found = await ended(server, "twin")
    assert (shown["podName"], shown["attempt"], "output" in shown) == (new, 1, False)
    assert (found["phase"], found["output"], found["podName"]) == ("Succeeded", "of the new one", new)


async def test_what_a_namespace_that_goes_away_refuses_is_waited_for_and_not_asked_in_a_loop(server: FakeApiServer) -> None:
    refusal = 'pods "x" is forbidden: unable to create new content in namespace default because it is being terminated'
    server.fail_next("POST", "/pods$", 403, times=1000, message=refusal)
    async with program(server) as controller:
        began = time.monotonic()
        server.put("agenttasks", task("a"))
        await server.until(lambda: ("POST", pods_path("default")) in server.writes)
        found = await phase(server, "a", "Queued", "Failed")
        posts, took = server.writes.count(("POST", pods_path("default"))), time.monotonic() - began
        server.remove("agenttasks", "a")
        await server.until(lambda: not len(controller._world.tasks))
    assert posts <= 5 + took
    assert "being terminated" in found["message"]
