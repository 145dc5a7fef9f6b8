"""What the controller keeps in mind: tasks, pods, models and inputs, and the sweep for what vanished unseen."""

import asyncio
import logging
import time
from typing import Any

import msgspec
import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import asking, model, node, program, task

from agenttask.controller import program as program_module
from agenttask.controller import sweep as sweep_module
from agenttask.controller.inventory import Inventory
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.projection import project
from agenttask.controller.surroundings import Models, Presence, read_model
from agenttask.controller.sweep import Sweeper
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.controller.wire import PartialObject, Pod
from agenttask.domain.device import DeviceClass


def body(version: int | str = 1, uid: str = "u", **rest: Any) -> dict[str, Any]:
    spec = {"steps": [{"name": "say", "exec": {"command": ["true"]}}]}
    return {"metadata": {"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": str(version)}, "spec": spec, **rest}


@pytest.mark.parametrize("odd", [{"metadata": 5}, body(status={"phase": "Nonsense"}), {"metadata": {"name": 1}}])
def test_a_task_whose_status_cannot_be_read_is_left_alone(odd: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_task(odd) is None

    assert "is left alone" in caplog.text


def test_a_spec_that_cannot_be_read_is_a_problem_with_its_path() -> None:
    found = read_task(body() | {"spec": {"steps": [{"name": "say", "exec": {"command": "true"}}]}})

    assert found is not None
    assert (found.spec, found.problem) == (None, "Expected `array`, got `str` - at `spec.steps[0].exec.command`")


def test_an_older_view_of_a_task_replaces_no_newer_and_a_final_one_ends_it() -> None:
    tasks = TaskCache()
    views = [body(5), body(5), body(4), body("6"), body(7, status={"phase": "Failed"})]
    said = [tasks.put(found) for view in views if (found := read_task(view)) is not None]

    assert (said, len(tasks), list(tasks)) == ([True, False, False, True, True], 0, [])
    odd = read_task(body("opaque"))
    assert odd is not None
    assert tasks.put(odd)


def pod(name: str = "p", owner: str = "u", **status: Any) -> Pod:
    owners = [{"kind": "AgentTask", "uid": owner, "controller": True}] if owner else []
    return msgspec.convert({"metadata": {"name": name, "uid": name, "ownerReferences": owners}, "status": status}, Pod)


def cache(*, is_open: bool = True) -> tuple[PodCache, list[str]]:
    woken: list[str] = []
    inventory = Inventory((DeviceClass(name="cpu"),), lambda: None)
    return PodCache(inventory=inventory, is_open=lambda _: is_open, wake=woken.append), woken


def test_pods_of_nobody_wake_nobody() -> None:
    pods, woken = cache()
    pods.on_change(None, None)
    pods.on_change(None, pod(owner=""))

    assert (woken, pods.get("", "p")) == ([], None)


def test_a_deleted_pod_keeps_its_last_words_until_its_task_is_final() -> None:
    pods, woken = cache()
    pods.on_change(None, pod(phase="Running"))
    pods.on_change(pod(phase="Running"), None)

    gone = pods.get("u", "p")
    assert gone is not None
    assert (gone.gone, gone.phase, woken) == (True, "Running", ["u", "u"])
    assert pods.get("u", "another") is None
    pods.forget_task("u")
    assert pods.get("u", "p") is None


def test_a_deleted_pod_of_a_final_task_leaves_nothing() -> None:
    pods, _ = cache(is_open=False)
    pods.on_change(None, pod())
    pods.on_change(pod(), None)

    assert (pods.get("u", "p"), pods._gone, pods._pods) == (None, {}, {})


def test_an_answer_replaces_no_newer_view_of_the_watch_and_a_lost_pod_is_lost_once() -> None:
    pods, _ = cache()
    pods.on_change(None, pod(phase="Running"))
    pods.seed(pod(phase="Pending"), 0.0)
    seen = pods.get("u", "p")
    assert seen is not None
    assert seen.phase == "Running"

    pods.lose("u", "p")
    pods.lose("u", "p")
    gone = pods.get("u", "p")
    assert gone is not None
    assert gone.gone


def test_ended_pods_are_kept_for_open_tasks_once_all_tasks_are_known() -> None:
    open_: set[str] = {"open"}
    woken: list[str] = []
    pods = PodCache(inventory=Inventory((DeviceClass(name="cpu"),), lambda: None), is_open=open_.__contains__, wake=woken.append)
    ended, ours = pod(owner="final", phase="Succeeded"), pod(owner="open", phase="Failed")
    runs = pod("q", owner="final", phase="Running")
    for each in (ended, ours, runs):
        assert pods.wanted(each), "nobody knows the tasks yet"
        pods.on_change(None, each)
    woken.clear()

    pods.settle()

    assert [pods.wanted(each) for each in (ended, ours, runs)] == [False, True, True]
    assert (pods.get("final", "p"), woken) == (None, [])
    assert pods.get("final", "q") is not None, "it holds a slot while it lives"
    assert pods.get("open", "p") is not None
    open_.clear()
    pods.forget_task("open")
    assert (pods.get("open", "p"), sorted(pods.owners())) == (None, ["final"])


def test_where_a_namespace_is_not_known_yet_its_ended_pods_are_kept_and_no_others() -> None:
    pods = PodCache(inventory=Inventory((DeviceClass(name="cpu"),), lambda: None), is_open=lambda _: False, wake=lambda _: None)
    of_a, of_b = (
        msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, namespace=namespace))
        for one, namespace in ((pod(owner="ua", phase="Failed"), "a"), (pod(owner="ub", phase="Failed"), "b"))
    )
    for each in (of_a, of_b):
        pods.on_change(None, each)

    pods.settle({"b"})
    pods.forget_task("ub")
    assert (sorted(pods.owners()), pods.wanted(of_a), pods.wanted(of_b)) == (["ub"], False, True)

    pods.settle()
    assert (sorted(pods.owners()), pods.wanted(of_b)) == ([], False)


def bound(found: Pod, node: str = "n1") -> Pod:
    return msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, node_name=node))


NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
GATED = msgspec.convert({"metadata": msgspec.to_builtins(pod().metadata), "spec": {"schedulingGates": [{"name": "g"}]}}, Pod)


@pytest.mark.parametrize(
    ("before", "now", "is_news"),
    [
        pytest.param(pod(phase="Pending"), pod(phase="Pending"), False, id="what our POST answered"),
        pytest.param(pod(phase="Pending"), bound(pod(phase="Pending")), False, id="only a node"),
        pytest.param(bound(pod()), bound(pod(phase="Running")), True, id="its kubelet spoke"),
        pytest.param(pod(), bound(pod(phase="Running"), "n2"), True, id="a node and more"),
        pytest.param(GATED, pod(), True, id="let go by Kueue"),
        pytest.param(
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]), bound(pod()), True, id="has room now"
        ),
        pytest.param(pod(conditions=[{"type": "DisruptionTarget", "status": "True"}]), pod(), True, id="disrupted no more"),
    ],
)
def test_a_task_is_looked_at_when_its_pod_has_news(before: Pod, now: Pod, is_news: bool) -> None:
    pods, woken = cache()
    pods.seed(before, 0.0)
    pods.on_change(before, now)

    assert woken == ["u"] * is_news
    seen = pods.get("u", "p")
    assert seen is not None
    assert seen.node == now.spec.node_name


def test_odd_annotations_of_a_pod_are_no_device() -> None:
    meta = {"name": "p", "annotations": {"agenttask.dev/device": "{no"}, "labels": {"agenttask.dev/attempt": "x"}}

    found = project(msgspec.convert({"metadata": meta}, Pod))

    assert (found.device, found.attempt) == (None, 1)


@pytest.mark.parametrize(
    ("spec", "secret"),
    [
        ({"client": "scripted", "model": "m", "credentials": {"secretKeyRef": {"name": "s", "key": "k"}}}, "s"),
        ({"client": "scripted", "new": 1, "credentials": {"secretKeyRef": {"name": "s", "key": "k"}}}, "s"),
        ({"client": "scripted", "model": 5}, ""),
        ({"credentials": 5}, ""),
        (None, ""),
    ],
    ids=["good", "newer", "odd", "odd credentials", "nothing"],
)
def test_of_a_model_that_cannot_be_read_the_secret_is_known(spec: object, secret: str) -> None:
    assert read_model(spec).secret == secret


def test_models_and_inputs_come_and_go() -> None:
    woken: list[tuple[str, ...]] = []
    models, inputs = Models(woken.append), Presence(woken.append)
    models.put({"metadata": {"namespace": "ns", "name": "m"}, "spec": {"client": "scripted", "model": "x"}})
    models.put({"metadata": {"namespace": "ns", "name": "n"}, "spec": None})
    models.remove("ns", "m")
    models.remove("elsewhere", "m")
    one = msgspec.convert({"metadata": {"namespace": "ns", "name": "c"}}, PartialObject)
    changed = inputs.on_change("configmap")
    changed(None, None)
    changed(None, one)
    changed(one, one)
    assert ("configmap", "ns", "c") in inputs
    changed(one, None)

    assert models.names() == [("ns", "n")]
    assert ("configmap", "ns", "c") not in inputs
    assert woken == [("model", "ns", "m"), ("model", "ns", "n"), ("configmap", "ns", "c")]


async def test_the_sweep_forgets_what_vanished_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "SWEEP_SECONDS", 0.1)
    async with FakeApiServer() as server:
        server.put("nodes", node())
        async with program(server) as controller:
            server.put("agentmodels", model("other"))
            server.put("agenttasks", asking("a", "small"))
            server.put("agenttasks", asking("b", "small"))
            await server.until(lambda: len(controller._world.tasks) == 2 and controller._world.models.names())
            server.stall_watches()
            server.fail_next("GET", "/agenttasks", 503)
            server.remove("agenttasks", "a")
            server.remove("agentmodels", "other")
            await server.until(lambda: len(controller._world.tasks) == 1 and not controller._world.models.names())
            assert controller.alive() is None


async def test_a_sweep_asks_for_metadata_of_every_namespace() -> None:
    asked: list[tuple[str, bool]] = []

    class Lister:
        async def list(self, path: str, *, field_selector: str | None = None, metadata_only: bool = False) -> Any:
            asked.append((path, metadata_only))
            yield b'{"items": null}'

    tasks, woken = TaskCache(), list[str]()
    found = read_task(body())
    assert found is not None
    tasks.put(found)
    sweeper = Sweeper(Lister(), ("x", "ns"), tasks, Models(lambda _: None), woken.append, clock=time.time)  # type: ignore[arg-type]  # a list is all it needs
    await sweeper.sweep()

    assert (len(tasks), woken, len(asked)) == (0, ["u"], 4)
    assert all(metadata_only for _, metadata_only in asked)


async def test_a_silent_watch_and_an_ended_part_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeApiServer() as server:
        server.put("nodes", node())
        async with program(server) as controller:
            server.put("agenttasks", task("a"))
            monkeypatch.setattr(program_module, "STALE_SECONDS", -1.0)
            assert "/api/v1/pods has been silent" in (controller.ready() or "")
            monkeypatch.undo()
            controller._ended(await _failed())
            assert controller.alive() == "a part of the controller has ended"
            assert controller.ready() == controller.alive()


async def _failed() -> asyncio.Task[None]:
    async def fail() -> None:
        raise LookupError("a bug")

    work = asyncio.create_task(fail(), name="drivers")
    await asyncio.wait([work])
    return work
