"""What the controller keeps between passes: caches, turns, wake-ups, patches; and what it reads of pods and nodes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.seen import CREATED, UID, task

from agenttask.api.reasons import Phase, Reason
from agenttask.api.task import AgentTaskStatus, DeviceStatus, StepStatus
from agenttask.controller.inventory import Inventory
from agenttask.controller.kube_errors import Forbidden, Invalid
from agenttask.controller.merge_patch import status_patch
from agenttask.controller.pace import Pace
from agenttask.controller.pod_cache import EXPECTED_SECONDS, PodCache
from agenttask.controller.projection import models_of, node_view, project, used_view
from agenttask.controller.rejection import rejection_of
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.wire import Node, PartialObject, Pod
from agenttask.domain.device import DeviceClass
from agenttask.domain.moment import render

GPU = DeviceClass(name="gpu", kind="cuda", resources={"nvidia.com/gpu": 1})


def pod(name: str = "a-1", *, version: str = "1", owner: str = UID, gpu: bool = False, **status: Any) -> Pod:
    body: dict[str, Any] = {
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "resourceVersion": version,
            "creationTimestamp": render(CREATED),
            "ownerReferences": [{"kind": "AgentTask", "uid": owner, "controller": True}] if owner else [],
        },
        "spec": {"nodeName": "n1", "containers": [{"resources": {"limits": {"cpu": "1", **({"nvidia.com/gpu": "1"} if gpu else {})}}}]},
        "status": status,
    }
    return msgspec.convert(body, Pod)


def gpu_node(name: str = "n1", gpus: str = "1", **spec: Any) -> Node:
    return msgspec.convert(
        {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": {"cpu": "4", "nvidia.com/gpu": gpus}}}, Node
    )


# ---- what is read of a pod


def test_a_pod_is_read_as_far_as_decisions_need() -> None:
    device = msgspec.json.encode(DeviceStatus(class_="gpu", reason="1 free")).decode()
    body = {
        "metadata": {
            "name": "a-1",
            "uid": "u",
            "labels": {"agenttask.dev/attempt": "2"},
            "annotations": {"agenttask.dev/device": device, "agenttask.dev/document": "x"},
            "deletionTimestamp": render(CREATED + 9),
            "deletionGracePeriodSeconds": 5,
        },
        "status": {
            "phase": "Failed",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"},
                {"type": "DisruptionTarget", "status": "True"},
            ],
            "containerStatuses": [
                {"name": "sidecar", "state": {"running": {"startedAt": render(CREATED)}}},
                {"name": "runner", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": "1970-01-01T00:00:00Z"}}},
            ],
        },
    }

    found = project(msgspec.json.decode(msgspec.json.encode(body), type=Pod))

    assert (found.attempt, found.device) == (2, DeviceStatus(class_="gpu", reason="1 free"))
    assert (found.deleted, found.deletion) == (CREATED + 4, CREATED + 9)
    assert (found.unschedulable, found.disrupted, found.running_since) == ("no room", True, None)
    assert found.terminated is not None
    assert (found.terminated.exit_code, found.terminated.started) == (137, None)


@pytest.mark.parametrize("annotations", [{}, {"agenttask.dev/device": "{"}])
def test_an_odd_pod_is_read_too(annotations: dict[str, str]) -> None:
    body = {"metadata": {"annotations": annotations, "labels": {"agenttask.dev/attempt": "²"}}}

    found = project(msgspec.convert(body, Pod))

    assert (found.attempt, found.device, found.owner, found.terminated) == (1, None, "", None)


@pytest.mark.parametrize(
    ("said", "models"),
    [
        ('["small","große"]', ("small", "große")),
        ('["a","b","a"]', ("a", "b")),
        ("", ()),
        ("[", ()),
        ('{"a":1}', ()),
        ("[1]", ()),
        ("\ud800", ()),
    ],
)
def test_the_models_that_a_pod_calls_are_read_where_they_can_be(said: str, models: tuple[str, ...]) -> None:
    assert models_of(msgspec.convert({"metadata": {"annotations": {"agenttask.dev/models": said}}}, Pod)) == models


def test_a_scheduling_gate_is_no_lack_of_nodes() -> None:
    gated = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]

    assert project(pod(conditions=gated)).unschedulable is None


def test_nodes_and_pods_are_counted_by_whole_devices() -> None:
    assert node_view(gpu_node(unschedulable=True)).allocatable == {"nvidia.com/gpu": 1}
    assert not node_view(gpu_node(unschedulable=True)).schedulable
    assert used_view(pod(gpu=True)) is not None
    assert used_view(pod(gpu=True, phase="Succeeded")) is None
    assert used_view(pod()) is None


# ---- pods


def cache(*, open_: bool = True) -> tuple[PodCache, list[str]]:
    woken: list[str] = []
    return PodCache(inventory=Inventory([GPU], lambda: None), is_open=lambda _: open_, wake=woken.append), woken


def test_a_pod_that_we_made_is_there_at_once_and_the_watch_knows_better() -> None:
    pods, woken = cache()
    pods.seed(pod(), CREATED)
    assert pods.get(UID, "a-1") is not None
    assert pods.overdue(UID, "a-1", CREATED + EXPECTED_SECONDS + 1)

    pods.on_change(None, pod(version="2", phase="Running"))
    pods.seed(pod(), CREATED)

    found = pods.get(UID, "a-1")
    assert found is not None
    assert (found.phase, woken) == ("Running", [UID])
    assert not pods.overdue(UID, "a-1", CREATED + 999)


def test_a_pod_that_never_came_is_gone() -> None:
    pods, _ = cache()
    pods.seed(pod(), CREATED)
    pods.lose(UID, "a-1")
    pods.lose(UID, "another")

    found = pods.get(UID, "a-1")
    assert found is not None
    assert found.gone


def test_a_pod_that_turns_out_not_to_be_there_holds_no_device() -> None:
    inventory = Inventory([GPU], lambda: None)
    inventory.learn_nodes(known=True)
    inventory.on_node(None, gpu_node())
    pods = PodCache(inventory=inventory, is_open=lambda _: True, wake=lambda _: None)
    pods.seed(pod(gpu=True), CREATED)
    assert inventory.stock()[0].free == 0

    pods.lose(UID, "a-1")

    assert inventory.stock()[0].free == 1
    assert not pods.unseen(UID, "a-1")


def test_the_last_words_of_a_deleted_pod_stay_until_its_task_is_final() -> None:
    pods, _ = cache()
    pods.on_change(None, pod(phase="Running"))
    pods.on_change(pod(phase="Running"), None)
    found = pods.get(UID, "a-1")
    assert found is not None
    assert (found.gone, found.phase) == (True, "Running")
    assert pods.get(UID, "a-2") is None

    pods.forget(UID, "a-1")

    assert pods.get(UID, "a-1") is None


def test_the_pods_of_final_tasks_and_of_strangers_leave_nothing() -> None:
    pods, woken = cache(open_=False)
    pods.on_change(None, pod())
    pods.on_change(pod(), None)
    pods.on_change(None, pod(owner=""))
    pods.on_change(None, None)

    assert pods.get(UID, "a-1") is None
    assert woken == [UID, UID]


def test_a_pod_that_somebody_takes_counts_for_its_task_no_more_and_leaves_nothing_of_a_closed_one() -> None:
    open_, freed, woken = {"open"}, list[str](), list[str]()
    inventory = Inventory([GPU], lambda: None)
    pods = PodCache(inventory=inventory, is_open=open_.__contains__, wake=woken.append, freed=freed.append)
    for name, owner, phase in (("a", "open", "Running"), ("b", "closed", "Running"), ("c", "closed", "Succeeded")):
        pods.on_change(None, pod(name, owner=owner, phase=phase))
        pods.on_change(pod(name, owner=owner, phase=phase), pod(name, owner="", phase=phase))

    assert freed == ["open", "closed"]
    last = pods.get("open", "a")
    assert last is not None
    assert last.gone
    assert (pods.get("closed", "b"), [*pods.owners()]) == (None, [])
    pods.seed(pod("d", owner="closed"), CREATED)
    pods.lose("closed", "d")
    assert pods.get("closed", "d") is None


@pytest.mark.parametrize("last", [None, pod(owner="", gpu=True, phase="Succeeded")], ids=["gone", "ended"])
def test_a_pod_that_somebody_takes_holds_its_device_until_it_ends(last: Pod | None) -> None:
    inventory = Inventory([GPU], lambda: None)
    inventory.learn_nodes(known=True)
    inventory.on_node(None, gpu_node())
    pods = PodCache(inventory=inventory, is_open=lambda _: True, wake=lambda _: None)
    ours, nobodys = pod(gpu=True), pod(owner="", gpu=True)
    pods.on_change(None, ours)
    pods.on_change(ours, nobodys)
    assert inventory.stock()[0].free == 0

    pods.on_change(nobodys, last)

    assert inventory.stock()[0].free == 1


# ---- devices


def test_devices_are_counted_from_nodes_and_pods_and_their_return_is_told() -> None:
    freed: list[int] = []
    inventory = Inventory([GPU], lambda: freed.append(1))
    assert inventory.stock()[0].free is None
    inventory.learn_nodes(known=True)
    inventory.on_node(None, gpu_node())
    assert (inventory.stock()[0].free, len(freed)) == (1, 2)

    inventory.pod_changed(pod(gpu=True), gone=False)
    inventory.pod_changed(pod(gpu=True), gone=False)
    assert (inventory.stock()[0].free, len(freed)) == (0, 2)
    inventory.on_node(gpu_node(), gpu_node())  # a heartbeat
    inventory.pod_changed(pod(gpu=True, phase="Succeeded"), gone=False)
    inventory.pod_changed(pod(gpu=True), gone=True)
    assert (inventory.stock()[0].free, len(freed)) == (1, 3)

    inventory.on_node(gpu_node(), None)
    inventory.on_node(None, None)
    inventory.learn_nodes(known=True)
    assert (inventory.stock()[0].total, len(freed)) == (0, 4)


def test_who_is_told_of_a_free_device_finds_it_counted() -> None:
    counted: list[int | None] = []
    inventory = Inventory([GPU], lambda: counted.append(inventory.stock()[0].free))
    inventory.learn_nodes(known=True)
    inventory.on_node(None, gpu_node())
    inventory.pod_changed(pod(gpu=True), gone=False)
    inventory.stock()
    inventory.pod_changed(pod(gpu=True), gone=True)

    assert counted == [0, 1, 1]


# ---- tasks


def body(version: str = "5", **fields: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "n", "uid": UID, "resourceVersion": version, "annotations": {"big": "x"}}
    return {"metadata": metadata, "spec": {"steps": [{"name": "s", "read": {"paths": ["a"]}}]}, **fields}


def test_an_older_view_never_replaces_a_newer_one() -> None:
    tasks = TaskCache()
    new, old = read_task(body("10")), read_task(body("9"))
    assert new is not None
    assert old is not None

    assert (tasks.put(new), tasks.put(old), tasks.put(new)) == (True, False, False)
    assert tasks.get(UID) is new
    assert (list(tasks), len(tasks), new.metadata.annotations, str(new)) == ([UID], 1, {}, "n/a")


def test_a_final_task_leaves_the_cache() -> None:
    tasks = TaskCache()
    final = read_task(body(status={"phase": "Succeeded"}))
    assert final is not None
    tasks.put(final)

    assert tasks.get(UID) is None


def test_a_spec_of_a_newer_version_is_a_problem_with_its_place() -> None:
    found = read_task(body(spec={"steps": [{"name": "s", "forAll": "x"}]}))

    assert found is not None
    assert found.spec is None
    assert found.problem == "Object contains unknown field `forAll` - at `spec.steps[0]`"


@pytest.mark.parametrize("odd", [{"metadata": 7}, {"metadata": {"name": 7}}, body(status={"phase": "Dreaming"})])
def test_what_cannot_be_judged_is_left_alone(odd: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert read_task(odd) is None
    assert "left alone" in caplog.text


# ---- what tasks refer to


def test_models_and_inputs_wake_whoever_waits_for_them() -> None:
    woken: list[tuple[str, ...]] = []
    models, inputs = Models(woken.append), Presence(woken.append)
    models.put({"metadata": {"namespace": "n", "name": "m"}, "spec": {"client": "openai", "model": "x"}})
    changed = inputs.on_change("configmap")
    one = PartialObject(metadata=msgspec.structs.replace(task().metadata, namespace="n", name="c"))
    changed(None, one)
    changed(one, one)
    changed(None, None)

    assert woken == [("model", "n", "m"), ("configmap", "n", "c")]
    assert ("configmap", "n", "c") in inputs
    assert (list(models.of("n")), models.names()) == (["m"], [("n", "m")])
    changed(one, None)
    models.remove("n", "m")
    models.remove("n", "m")
    assert ("configmap", "n", "c") not in inputs
    assert (dict(models.of("n")), models.names()) == ({}, [])


def test_a_model_outlives_what_is_told_late_of_one_that_had_its_name() -> None:
    def body(uid: str, version: int, model: str) -> dict[str, object]:
        metadata = {"namespace": "n", "name": "m", "uid": uid, "resourceVersion": str(version)}
        return {"metadata": metadata, "spec": {"client": "openai", "model": model}}

    models = Models(lambda _: None)
    models.put(body("new", 7, "x"))
    models.put(body("old", 5, "y"))
    models.gone(body("old", 6, "y"))
    (found,) = models.of("n").values()
    assert found.spec is not None
    assert found.spec.model == "x"

    models.put(body("new", 3, "z"))  # etcd came back from a backup
    (found,) = models.of("n").values()
    assert found.spec is not None
    assert found.spec.model == "z"
    models.gone(body("new", 4, "z"))
    models.put(body("third", 1, "w"))
    assert models.names() == [("n", "m")]


def test_the_oldest_waiters_wake_first_and_at_most_so_many() -> None:
    wakeups = Wakeups()
    key, other = ("devices",), ("model", "n", "m")
    for uid in ("a", "b", "c"):
        wakeups.wait(uid, (key,))
    wakeups.wait("a", (key,))  # keeps its place
    wakeups.wait("c", (other,))

    assert list(wakeups.fire(key, 1)) == ["a"]
    assert list(wakeups.fire(key)) == ["b"]
    wakeups.wait("c", ())
    assert list(wakeups.fire(other)) == []


def test_waiting_writes_take_turns() -> None:
    pace = Pace(5)

    assert [round(pace.wait(key, 100.0), 3) for key in "abca"] == [0, 0.2, 0.4, 0.6]
    assert [pace.wait(key, 100.2) for key in "b"] == [0]
    assert round(pace.wait("c", 100.2), 3) == 0.2
    assert pace.wait("z", 200.0) == 0


def test_a_turn_that_is_given_back_goes_to_the_next_who_asks() -> None:
    pace = Pace(5)
    for index in range(10_000):
        pace.wait(str(index), 100.0)
    for index in range(10_000):
        pace.forget(str(index))

    assert round(pace.wait("new", 110.1), 3) == 0.1
    assert round(pace.wait("newer", 110.1), 3) == 0.3
    assert round(pace.wait("newest", 9_000.0), 3) == 0


# ---- refusals and patches


@pytest.mark.parametrize(
    "message",
    [
        'pods "a" is forbidden: exceeded quota: few, requested: pods=1',
        'pods is forbidden: User "x" cannot create resource "pods" in API group ""',
        "unable to create new content in namespace n because it is being terminated",
        'error looking up service account n/default: serviceaccount "default" not found',
    ],
)
def test_some_refusals_pass(message: str) -> None:
    found = rejection_of(Forbidden(403, "Forbidden", message))

    assert (found.reason, found.message, found.passing) == (Reason.UNSCHEDULABLE, message, True)


@pytest.mark.parametrize(
    "error",
    [Forbidden(403, "Forbidden", 'violates PodSecurity "restricted"'), Invalid(422, "Invalid", "spec.nodeSelector: Invalid value")],
    ids=["pod security", "validation"],
)
def test_others_are_for_good(error: Forbidden | Invalid) -> None:
    found = rejection_of(error)

    assert (found.reason, found.passing) == (Reason.POD_REJECTED, False)
    assert error.message in found.message


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def test_a_patch_has_what_changed_and_the_version_it_was_planned_from() -> None:
    old = AgentTaskStatus(phase=Phase.QUEUED, reason="UnknownModel", message="no", device=DeviceStatus(class_="gpu", reason="x"))
    new = AgentTaskStatus(phase=Phase.STARTING, reason="PodStarting", device=DeviceStatus(class_="cpu"))

    patch = status_patch(task(old), new)

    assert patch is not None
    assert msgspec.json.decode(patch) == {
        "metadata": {"resourceVersion": "7"},
        "status": {"phase": "Starting", "reason": "PodStarting", "message": None, "device": {"class": "cpu", "reason": None}},
    }
    assert status_patch(task(old), old) is None


texts = st.none() | st.sampled_from(["a", "b"])
statuses = st.builds(
    AgentTaskStatus,
    phase=st.none() | st.sampled_from(Phase),
    reason=texts,
    output=texts,
    attempt=st.integers(0, 2),
    device=st.none() | st.builds(DeviceStatus, class_=st.sampled_from(["", "cpu"]), reason=st.sampled_from(["", "x"])),
    steps=st.lists(st.builds(StepStatus, name=st.sampled_from("ab"), message=texts), max_size=2).map(tuple),
)


@given(statuses, statuses)
def test_a_patch_applied_is_the_new_status(old: AgentTaskStatus, new: AgentTaskStatus) -> None:
    patch = status_patch(task(old), new)
    before = msgspec.to_builtins(old)
    after = before if patch is None else merged(before, msgspec.json.decode(patch)["status"])

    assert msgspec.convert(after, AgentTaskStatus) == new
