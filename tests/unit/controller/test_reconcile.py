"""One pass after another over one task, on a writer that answers what the test says: the ends of it that lives seldom reach."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.fakes.reconciling import reconciler
from tests.fakes.seen import CREATED, UID

from agenttask.api.constants import ANNOTATION_DEVICE
from agenttask.api.errors import PodRejected
from agenttask.controller import attempt_pods
from agenttask.controller.acceptance import PluginNames
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.kube_errors import AlreadyExists, Conflict, Forbidden, KubeError, NotFound, ServerError, Unreachable
from agenttask.controller.kueue import GATE, QUEUE_LABEL
from agenttask.controller.pod_cache import EXPECTED_SECONDS, PodCache
from agenttask.controller.pod_name import pod_name
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.wire import Pod
from agenttask.controller.world import World
from agenttask.domain.device import DeviceClass
from agenttask.domain.moment import render
from agenttask.domain.plan import AT_ONCE
from agenttask.plugin.registry import load

NAME = pod_name("a", UID, 1)
INSTALLATION = Installation(device_classes=(DeviceClass(name="cpu"), DeviceClass(name="other")))


class Writer:
    """Notes every call; `answers` are raised or returned, by method, before the usual answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, list[bytes | KubeError]] = {}
        self.spec: dict[str, Any] = {}
        """What the task has besides its steps, where a test goes on with what the server answers."""
        self.stored: dict[str, Any] = {}
        self.failures: dict[int, KubeError] = {}
        """Of writes of status, by how many calls went before."""

    def _answer(self, method: str, usual: Callable[[], bytes]) -> bytes:
        planned = self.answers.get(method)
        answer = planned.pop(0) if planned else usual()
        if isinstance(answer, KubeError):
            raise answer
        return answer

    async def get(self, path: str) -> bytes:
        self.calls.append(("GET", path))
        return self._answer("GET", lambda: missing())

    async def create(self, path: str, body: bytes) -> bytes:
        self.calls.append(("POST", path))
        return self._answer("POST", lambda: stored(body))

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        self.calls.append(("DELETE", uid))
        self._answer("DELETE", lambda: b"")

    async def patch_status(self, path: str, body: bytes) -> bytes:
        self.status = status = msgspec.json.decode(body)["status"]
        self.calls.append(("PATCH", (status.get("phase"), status.get("reason"))))
        if len(self.calls) - 1 in self.failures:
            raise self.failures[len(self.calls) - 1]
        self.stored = {name: value for name, value in {**self.stored, **status}.items() if value is not None}
        return self._answer("PATCH", lambda: msgspec.json.encode(task(self.stored, version=str(7 + len(self.calls)), **self.spec)))


def stored(body: bytes) -> bytes:
    """A pod with what the server adds."""
    pod = msgspec.json.decode(body)
    pod["metadata"] |= {"uid": "p", "creationTimestamp": render(CREATED + 1)}
    return msgspec.json.encode(pod)


def missing() -> bytes:
    raise NotFound(404, "NotFound", "there is none")


def task(status: dict[str, Any] | None = None, *, version: str = "7", uid: str = UID, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "n", "uid": uid, "resourceVersion": version, "creationTimestamp": render(CREATED)}
    steps = [{"name": "s", "read": {"paths": ["x"]}}]
    return {"metadata": metadata, "spec": {"steps": steps, "pendingDeadlineSeconds": 60, **spec}, "status": status or {}}


class Bench:
    """A reconciler with its world, and the clock in the test's hand."""

    def __init__(
        self, body: dict[str, Any], *, per_second: float = 5, max_running: int = 0, installation: Installation = INSTALLATION
    ) -> None:
        self.now = CREATED + 1
        self.writer = Writer()
        self.world = world(installation)
        plugins = load(allowed_distributions=("agenttask",))
        names = PluginNames(
            step_kinds=frozenset({"read", "chat"}),
            threading=frozenset({"async"}),
            llm_clients=frozenset({"scripted"}),
            model_factories=frozenset(),
            device_strategies=frozenset({"auto"}),
        )
        self.reconciler = reconciler(
            self.world,
            self.writer,
            installation=installation,
            names=names,
            strategies={"auto": plugins.device_strategies.choose("auto")()},
            clock=lambda: self.now,
            random=lambda: 0.5,
            per_second=per_second,
            max_running=max_running,
        )
        self.put(body)

    def put(self, body: dict[str, Any]) -> None:
        read = read_task(body)
        assert read is not None
        self.world.tasks.put(read)

    def see(self, *, unschedulable: str, gates: tuple[str, ...] = ()) -> None:
        """The task's pod, on class cpu, finds no node."""
        pod = msgspec.json.decode(foreign_pod(UID))
        pod["metadata"]["annotations"] = {ANNOTATION_DEVICE: '{"class":"cpu"}'}
        pod["spec"] = {"schedulingGates": [{"name": gate} for gate in gates]}
        pod["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": unschedulable}]}
        self.world.pods.on_change(None, msgspec.convert(pod, Pod))

    async def look(self, seconds: float | None = None, uid: str = UID) -> float | None:
        self.now = self.now if seconds is None else CREATED + seconds
        return await self.reconciler.reconcile(uid)


def world(installation: Installation) -> World:
    inventory = Inventory(installation.device_classes, lambda: None)
    tasks = TaskCache()
    return World(
        tasks=tasks,
        pods=PodCache(inventory=inventory, is_open=lambda uid: tasks.get(uid) is not None, wake=lambda _: None),
        models=Models(lambda _: None),
        inputs=Presence(lambda _: None),
        inventory=inventory,
        wakeups=Wakeups(),
    )


def foreign_pod(owner: str) -> bytes:
    owners = [{"kind": "AgentTask", "uid": owner, "controller": True}]
    return msgspec.json.encode({"metadata": {"name": NAME, "uid": "p", "ownerReferences": owners, "creationTimestamp": render(CREATED)}})


async def test_a_key_nobody_knows_is_nothing_to_do() -> None:
    bench = Bench(task())
    bench.world.tasks.drop(UID)

    assert await bench.look() is None
    assert bench.writer.calls == []


async def test_a_pod_is_made_once_and_looked_at_again_when_it_should_be_told() -> None:
    bench = Bench(task())

    assert await bench.look() == 3
    assert await bench.look() is not None
    assert bench.writer.calls == [("POST", "/api/v1/namespaces/n/pods")]


async def test_a_pod_that_no_watch_has_shown_keeps_the_turn_of_its_task_until_it_would_have() -> None:
    """The task went a moment after the POST: its pod may live, or have come and gone while a watch was away."""
    bench = Bench(task(), max_running=1)
    bench.put(task(uid="next"))
    await bench.look()
    bench.world.tasks.drop(UID)
    await bench.look()
    await bench.look(2, "next")
    assert [method for method, _ in bench.writer.calls] == ["POST"]
    assert bench.world.pods.living(UID)

    await bench.look(EXPECTED_SECONDS + 1)
    await bench.look(uid="next")

    assert [method for method, _ in bench.writer.calls].count("POST") == 2
    assert not bench.world.pods.living(UID)


async def test_of_two_pods_of_a_task_that_is_gone_the_one_that_may_live_longer_keeps_its_turn() -> None:
    """The first attempt's node was lost and its pod stays in deletion; the second one's is in its grace."""
    bench = Bench(task(), max_running=1)
    await bench.look()
    bench.put(task(uid="next", pendingDeadlineSeconds=9000))
    for name, deletion in (("lost", CREATED), (NAME, CREATED + 1000)):
        pod = msgspec.json.decode(foreign_pod(UID))
        pod["metadata"] |= {"name": name, "uid": name, "deletionTimestamp": render(deletion)}
        bench.world.pods.on_change(None, msgspec.convert(pod | {"status": {"phase": "Running"}}, Pod))
    bench.writer.calls.clear()
    for seconds, posts in ((1001, 0), (1299, 0), (1301, 1)):
        bench.world.tasks.drop(UID)
        await bench.look(seconds)
        await bench.look(uid="next")
        assert [method for method, _ in bench.writer.calls].count("POST") == posts


async def test_a_pod_that_verify_refuses_fails_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PodRejected("the pod leaves the rules for task pods: spec.x")

    monkeypatch.setattr(attempt_pods, "verify", refuse)
    bench = Bench(task())

    await bench.look()

    assert bench.writer.calls == [("PATCH", ("Failed", "PodRejected"))]
    assert bench.world.tasks.get(UID) is None


async def test_our_own_pod_is_adopted_and_a_strangers_is_told() -> None:
    own, strange = Bench(task()), Bench(task())
    for bench, owner in ((own, UID), (strange, "other")):
        bench.writer.answers = {"POST": [AlreadyExists(409, "AlreadyExists", NAME)], "GET": [foreign_pod(owner)]}
        await bench.look()

    assert [method for method, _ in own.writer.calls] == ["POST", "GET"]
    assert strange.writer.calls[-1] == ("PATCH", ("Failed", "PodRejected"))


async def test_a_name_that_was_taken_a_moment_ago_is_tried_again_later() -> None:
    bench = Bench(task())
    bench.writer.answers = {"POST": [AlreadyExists(409, "AlreadyExists", NAME)]}

    with pytest.raises(AlreadyExists):
        await bench.look()
    assert [method for method, _ in bench.writer.calls] == ["POST", "GET"]


async def test_a_pod_on_record_is_asked_for_before_it_counts_as_lost() -> None:
    there, gone = (Bench(task({"phase": "Running", "podName": NAME, "attempt": 1})) for _ in range(2))
    there.writer.answers = {"GET": [foreign_pod(UID)]}

    await there.look(30)
    await gone.look(30)

    assert there.writer.calls[0] == ("GET", f"/api/v1/namespaces/n/pods/{NAME}")
    assert ("PATCH", ("Queued", "BackingOff")) not in there.writer.calls
    assert gone.writer.calls[-1] == ("PATCH", ("Queued", "BackingOff"))


async def test_a_pod_that_the_watch_never_shows_is_asked_for() -> None:
    bench = Bench(task())
    await bench.look()

    await bench.look(40)

    assert [method for method, _ in bench.writer.calls] == ["POST", "GET", "PATCH"]
    assert bench.writer.calls[-1] == ("PATCH", ("Queued", "BackingOff"))


async def test_a_pod_that_went_by_itself_needs_no_delete() -> None:
    bench = Bench(task())
    await bench.look()
    bench.writer.answers = {"DELETE": [NotFound(404, "NotFound", NAME)], "GET": [foreign_pod(UID)]}

    await bench.look(60)

    assert [method for method, _ in bench.writer.calls] == ["POST", "GET", "DELETE", "PATCH"]
    assert bench.writer.calls[-1] == ("PATCH", ("Failed", "PendingDeadlineExceeded"))


async def test_waiting_is_written_in_turns() -> None:
    bench = Bench(task(steps=[{"name": "s", "chat": {"model": "small", "prompt": "x"}}]), per_second=0.1)
    bench.reconciler._pace.wait("another", CREATED + 5)

    assert await bench.look(5) == pytest.approx(10)
    assert bench.writer.calls == []
    assert await bench.look(15) == pytest.approx(45)
    assert bench.writer.calls == [("PATCH", ("Queued", "UnknownModel"))]


async def test_what_the_task_itself_waits_for_is_written_at_once() -> None:
    """Behind ten thousand reasons a task would come back from suspension, or leave its device class, half an hour late."""
    suspended = {"type": "Suspended", "status": "True", "reason": "Suspended", "lastTransitionTime": render(CREATED)}
    resumed = Bench(task({"phase": "Suspended", "conditions": [suspended]}), per_second=0.001)
    either = {"classes": ["cpu", "other"], "fallbackAfterSeconds": 10}
    stuck = Bench(task({"phase": "Starting", "podName": NAME, "attempt": 1}, device=either), per_second=0.001)
    stuck.see(unschedulable="no room")
    for bench in (resumed, stuck):
        bench.reconciler._pace.wait("another", CREATED)
        await bench.look(50)

    assert resumed.writer.calls[0] == ("PATCH", ("Queued", "Resumed"))
    assert [method for method, _ in stuck.writer.calls] == ["PATCH"]
    assert stuck.writer.status["device"]["tried"][0]["class"] == "cpu"


async def test_a_pod_that_kueue_held_back_has_its_whole_time_to_find_a_node() -> None:
    """Its condition PodScheduled is False from its making: counted from then, it gave its class up as soon as Kueue let it go."""
    status = {"phase": "Starting", "reason": "Unschedulable", "podName": NAME, "attempt": 1}
    body = task(status, device={"classes": ["cpu", "other"], "fallbackAfterSeconds": 10})
    body["metadata"]["labels"] = {QUEUE_LABEL: "team"}
    bench = Bench(body)
    bench.see(unschedulable="gated", gates=(GATE,))
    await bench.look(2)
    bench.see(unschedulable="no room")

    assert await bench.look(30) == 10
    assert bench.writer.calls == []
    await bench.look(40)
    assert [one["class"] for one in bench.writer.status["device"]["tried"]] == ["cpu"]


async def test_a_pod_whose_node_does_not_prepare_its_device_gives_its_class_up_in_the_nodes_words() -> None:
    status = {"phase": "Starting", "reason": "PodStarting", "podName": NAME, "attempt": 1}
    wish = {"device": {"classes": ["cpu", "other"], "fallbackAfterSeconds": 10}}
    bench = Bench(task(status, **wish))
    bench.writer.spec = wish
    pod = msgspec.json.decode(foreign_pod(UID))
    pod["metadata"]["annotations"] = {ANNOTATION_DEVICE: '{"class":"cpu"}'}
    pod["spec"] = {"nodeName": "n1", "resourceClaims": [{"name": "device-0"}]}
    conditions = {"PodScheduled": "True", "PodReadyToStartContainers": "False"}
    times = {"lastTransitionTime": render(CREATED + 2)}
    pod["status"] = {"phase": "Pending", "conditions": [{"type": name, "status": is_so, **times} for name, is_so in conditions.items()]}
    bench.world.pods.on_change(None, msgspec.convert(pod, Pod))
    assert await bench.look(3) == 1
    assert bench.writer.calls == []  # most drivers need no more
    bench.writer.answers = {"GET": [b'{"items": [{"message": "no such driver"}]}']}

    assert await bench.look(4.5) == 7.5
    assert bench.writer.status["message"] == "node n1 does not prepare the pod's device: no such driver"
    await bench.look(12)
    verdict = bench.writer.status["device"]["tried"][0]["verdict"]
    await bench.look(12)

    assert verdict == "device not prepared by node n1 for 10 s: no such driver"
    assert [method for method, _ in bench.writer.calls] == ["GET", "PATCH", "PATCH", "DELETE"]


def used_up(resource: str) -> Forbidden:
    return Forbidden(403, "Forbidden", f"exceeded quota: of-{resource}, requested: {resource}=1, used: {resource}=0, limited: {resource}=0")


async def test_a_task_that_is_refused_on_one_device_class_after_the_other_is_looked_at_until_it_has_one() -> None:
    """After the third refusal nobody looked again: it was in no line, and not even its deadline ended it."""
    devices = [f"example.com/{name}" for name in ("a", "b", "c")]
    classes = tuple(DeviceClass(name=device[-1], kind="cuda", resources={device: 1}) for device in devices)
    installation = Installation(device_classes=(*classes, DeviceClass(name="cpu")))
    bench = Bench(task(device={"classes": ["a", "b", "c", "cpu"]}), installation=installation)
    bench.writer.answers = {"POST": [used_up(f"requests.{device}") for device in devices]}

    assert await bench.look(1) == AT_ONCE
    assert [method for method, _ in bench.writer.calls] == ["POST"] * 3
    await bench.look(1)

    assert [method for method, _ in bench.writer.calls] == ["POST"] * 4
    found = bench.world.pods.get(UID, NAME)
    assert found is not None
    assert found.device is not None
    assert found.device.class_ == "cpu"


async def test_one_pass_reads_the_clock_once() -> None:
    """A back-off that ended between two readings: no turn had been asked for, and a pod was made without one."""
    bench = Bench(task({"endedAttempts": 1, "nextAttemptTime": render(CREATED + 10)}))
    readings = iter([CREATED + 9.5, CREATED + 10.5])
    bench.reconciler._clock = lambda: next(readings)

    assert await bench.reconciler.reconcile(UID) == pytest.approx(0.5)
    assert bench.writer.calls == []


ONCE = {"execution": {"atMostOnce": True}, "pendingDeadlineSeconds": 3600}


def once(*answers: KubeError, status: dict[str, Any] | None = None) -> Bench:
    """A task that runs at most once, and a server that goes on from what is written; `answers` are those to POSTs."""
    bench = Bench(task(status, **ONCE), per_second=0.01)
    bench.writer.spec, bench.writer.stored = ONCE, dict(status or {})
    bench.writer.answers = {"POST": [*answers]}
    return bench


def quota() -> Forbidden:
    return Forbidden(403, "Forbidden", "exceeded quota: small")


async def test_at_most_once_a_task_that_waits_under_a_quota_outlives_its_controller() -> None:
    """Its attempt stayed on record, so that the next controller found no pod and took it for lost."""
    bench = once(quota(), quota())
    for seconds in (1, 10):
        await bench.look(seconds)
    calls = bench.writer.calls
    tried = [("PATCH", ("Starting", "PodStarting")), ("PATCH", ("Queued", "Unschedulable"))]
    assert [call for call in calls if call[0] == "PATCH"] == tried * 2
    assert [method for method, _ in calls if method != "PATCH"] == ["POST"] * 2
    assert not {"attempt", "podName"} & bench.writer.stored.keys()

    then = once(status=bench.writer.stored)
    await then.look(20)

    assert [method for method, _ in then.writer.calls] == ["PATCH", "POST"]
    assert (then.writer.stored["phase"], then.writer.stored["attempt"], then.writer.stored["podName"]) == ("Starting", 1, NAME)


async def test_at_most_once_a_crash_before_the_answer_leaves_the_attempt_on_record() -> None:
    bench = once(quota(), Unreachable("cut off"))
    await bench.look(1)
    with pytest.raises(Unreachable):
        await bench.look(10)

    then = once(status=bench.writer.stored)
    await then.look(20)

    assert (then.writer.status["phase"], then.writer.status["reason"]) == ("Failed", "Lost")
    assert "POST" not in [method for method, _ in then.writer.calls]


async def test_at_most_once_what_had_no_answer_stays_on_record_whatever_is_refused_later() -> None:
    """The first POST may be carried out after the second one was refused."""
    bench = once(Unreachable("cut off"), quota())
    with pytest.raises(Unreachable):
        await bench.look(1)
    await bench.look(10)

    assert [method for method, _ in bench.writer.calls].count("POST") == 2
    assert (bench.writer.stored["attempt"], bench.writer.stored["podName"]) == (1, NAME)


@pytest.mark.parametrize(("field", "phase"), [("suspend", "Suspended"), ("cancel", "Cancelled")])
async def test_at_most_once_a_task_that_was_refused_may_be_stopped(field: str, phase: str) -> None:
    """An attempt that never was is neither lost nor counted, though it could not be taken off record."""
    bench = once(quota())
    bench.writer.failures = {2: ServerError(500, "InternalError", "a")}
    with pytest.raises(ServerError):
        await bench.look(1)
    bench.put(task(bench.writer.stored, version="99", **ONCE, **{field: True}))
    await bench.look(10)

    assert (bench.writer.stored["phase"], bench.writer.stored.get("endedAttempts", 0)) == (phase, 0)


async def test_a_turn_to_tell_is_given_back_when_there_is_nothing_to_tell_any_more() -> None:
    bench = Bench(task(steps=[{"name": "s", "chat": {"model": "small", "prompt": "x"}}]), per_second=0.1)
    bench.reconciler._pace.wait("another", CREATED + 3)
    assert await bench.look(3) == pytest.approx(10)

    bench.world.models.put({"metadata": {"namespace": "n", "name": "small"}, "spec": {"client": "scripted", "model": "m"}})
    await bench.look(3.5)

    assert [method for method, _ in bench.writer.calls] == ["POST"]
    assert bench.reconciler._pace.wait("a third", CREATED + 3.5) == pytest.approx(9.5)


async def test_a_task_that_is_gone_is_forgotten() -> None:
    bench = Bench(task(device={"strategy": "odd"}))
    bench.writer.answers = {"PATCH": [NotFound(404, "NotFound", "a")]}

    assert await bench.look() is None
    assert bench.world.tasks.get(UID) is None


@pytest.mark.parametrize("current", [None, task(uid="another"), task({"phase": "Failed"}, version="9")], ids=["gone", "namesake", "final"])
async def test_a_conflict_takes_the_view_of_whoever_was_faster(current: dict[str, Any] | None) -> None:
    bench = Bench(task(device={"strategy": "odd"}))
    bench.writer.answers = {"PATCH": [Conflict(409, "Conflict", "a")], "GET": [] if current is None else [msgspec.json.encode(current)]}

    with pytest.raises(Conflict):
        await bench.look()

    assert bench.world.tasks.get(UID) is None
    assert await bench.look() is None


async def test_after_a_conflict_the_next_pass_plans_from_the_new_view() -> None:
    bench = Bench(task(device={"strategy": "odd"}))
    bench.writer.answers = {
        "PATCH": [Conflict(409, "Conflict", "a")],
        "GET": [msgspec.json.encode(task(version="9", device={"strategy": "odd"}))],
    }

    with pytest.raises(Conflict):
        await bench.look()
    await bench.look()

    assert [method for method, _ in bench.writer.calls] == ["PATCH", "GET", "PATCH"]
