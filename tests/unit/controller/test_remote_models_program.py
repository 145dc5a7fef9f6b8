"""The whole controller where local models are endpoints elsewhere: limits and breakers are those of the AgentModel that is called."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import asking, ended, model, node, phase, program, said, status, success
from tests.unit.controller.gateway.test_whole import Runner, flags

from agenttask.api.gateway import REPORT_PATH

__all__ = ["flags"]
CLASSES = "deviceClasses=[{name: cpu}, {name: far, kind: remote}]"
FULL = "AgentModel 'large': 1 tasks use it, of at most 1: limits.concurrentCalls is 1"
FAR: dict[str, Any] = {"device": {"classes": ["far"]}}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    """`small` and `tiny` are both `large` elsewhere, which serves one task at a time."""
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        for name in ("small", "tiny"):
            server.put("agentmodels", model(name, client="local", local={"package": "weights", "remoteModel": "large"}))
        server.put("agentmodels", model("large", limits={"concurrentCalls": 1}))
        yield server


async def all_end(server: FakeApiServer) -> None:
    """Every pod ends well, those that come too."""
    server.kubelet.auto_run(success)
    for pod in server.objects("pods"):
        await server.kubelet.run_pod(pod["metadata"]["name"], said())


async def pods(server: FakeApiServer, count: int) -> list[dict[str, Any]]:
    await server.until(lambda: len(server.objects("pods")) == count)
    return server.objects("pods")


@pytest.mark.parametrize("second", [asking("second", "large"), asking("second", "tiny", **FAR)], ids=["named itself", "another local one"])
async def test_the_limits_of_an_endpoint_hold_for_all_that_call_it(server: FakeApiServer, second: dict[str, Any]) -> None:
    async with program(server, CLASSES):
        server.put("agenttasks", asking("first", "small", **FAR))
        await pods(server, 1)
        server.put("agenttasks", second)
        waits = await phase(server, "second", "Queued")
        await all_end(server)
        first, found = await ended(server, "first"), await ended(server, "second")
    assert (waits["reason"], waits["message"]) == (
        "ModelFull",
        "AgentModel 'large': 1 tasks use it, of at most 1: limits.concurrentCalls is 1",
    )
    assert (first["phase"], found["phase"]) == ("Succeeded", "Succeeded")


async def test_a_local_model_that_is_told_where_it_is_elsewhere_lets_its_task_go(server: FakeApiServer) -> None:
    """And one that names another endpoint by now is counted for that one."""
    server.put("agentmodels", model("mute", client="local", local={"package": "weights"}))
    server.put("agentmodels", model("larger"))
    async with program(server, CLASSES):
        server.put("agenttasks", asking("first", "large"))
        server.put("agenttasks", asking("waits", "mute", **FAR))
        await pods(server, 1)
        waits = await phase(server, "waits", "Queued")
        server.patch("agentmodels", "mute", {"spec": {"local": {"remoteModel": "large"}}})
        await server.until(lambda: status(server, "waits").get("reason") == "ModelFull")
        server.patch("agentmodels", "mute", {"spec": {"local": {"remoteModel": "larger"}}})
        await pods(server, 2)
    assert (waits["reason"], waits["message"]) == ("WaitingForDevice", "far: AgentModel 'mute' is local and names no remoteModel")


async def test_where_the_endpoint_is_full_another_class_is_taken_with_the_reason(server: FakeApiServer) -> None:
    async with program(server, CLASSES):
        server.put("agenttasks", asking("first", "large"))
        await pods(server, 1)
        server.put("agenttasks", asking("second", "small", device={"classes": ["far", "cpu"]}))
        await pods(server, 2)
        await all_end(server)
        found = await ended(server, "second")
    assert found["device"]["class"] == "cpu"
    assert found["device"]["considered"][0] == {"class": "far", "verdict": FULL}


async def test_where_the_local_model_is_full_the_endpoint_is_taken(server: FakeApiServer) -> None:
    server.put("agentmodels", model("few", client="local", limits={"concurrentCalls": 1}, local={"package": "w", "remoteModel": "large"}))
    wished = {"device": {"classes": ["cpu", "far"]}}
    async with program(server, CLASSES):
        for name in ("first", "second", "third"):
            server.put("agenttasks", asking(name, "few", **wished))
            if name != "third":
                await pods(server, 1 if name == "first" else 2)
        waits = await phase(server, "third", "Queued")
        await all_end(server)
        found = [(await ended(server, name))["device"]["class"] for name in ("first", "second", "third")]
    assert found[:2] == ["cpu", "far"]
    assert waits["reason"] == "ModelFull"


async def test_a_pod_without_a_node_does_not_fall_back_to_an_endpoint_that_is_full(server: FakeApiServer) -> None:
    async with program(server, CLASSES):
        server.put("agenttasks", asking("first", "large"))
        await pods(server, 1)
        wished = {"classes": ["cpu", "far"], "fallbackAfterSeconds": 1}
        server.put("agenttasks", asking("second", "small", device=wished))
        for pod in await pods(server, 2):
            server.kubelet.unschedulable(pod["metadata"]["name"])
        await server.until(lambda: status(server, "second").get("reason") == "Unschedulable")
        stays = status(server, "second")
        first = next(pod for pod in server.objects("pods") if pod["metadata"]["ownerReferences"][0]["name"] == "first")
        await server.kubelet.run_pod(first["metadata"]["name"], said())
        await server.until(lambda: status(server, "second").get("endedAttempts") == 1)
    assert (stays["device"]["class"], "endedAttempts" in stays) == ("cpu", False)


async def test_an_open_breaker_is_that_of_the_endpoint(server: FakeApiServer, flags: list[str]) -> None:
    """A pod that knows it as `small` tells of it; the task that names the endpoint itself waits."""
    server.remove("agentmodels", "large")
    server.put("agentmodels", model("large"))
    async with program(server, *flags, CLASSES):
        server.put("agenttasks", asking("first", "small", **FAR))
        (pod,) = await pods(server, 1)
        began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        state = {"running": {"startedAt": began}}
        server.kubelet.set_status(pod["metadata"]["name"], {"phase": "Running", "containerStatuses": [{"name": "runner", "state": state}]})
        await phase(server, "first", "Running")
        told = json.dumps({"models": [{"name": "small", "calls": 1, "callSeconds": 1.0, "breakerOpenSeconds": 600.0}]})
        assert (await Runner(pod).ask("POST", REPORT_PATH, told.encode()))[0] == 200
        server.put("agenttasks", asking("second", "large"))
        waits = await phase(server, "second", "Queued")
    assert waits["reason"] == "ModelBreakerOpen"
    assert waits["message"].startswith("AgentModel 'large': runners say that its circuit breaker is open, for ")
