"""One pass over one task, where the API server's answers and our view disagree."""

import json
import time
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from tests.fakes.reconciling import reconciler

from agenttask.api.reasons import Phase
from agenttask.controller.acceptance import names_of
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.kube_errors import AlreadyExists, Conflict, Forbidden, KubeError, NotFound, ServerError, Unreachable
from agenttask.controller.pod_cache import EXPECTED_SECONDS, PodCache
from agenttask.controller.pod_name import pod_name
from agenttask.controller.reconcile import Reconciler
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.wire import Pod
from agenttask.controller.world import World
from agenttask.domain.moment import render
from agenttask.plugin.registry import load

UID = "11111111-2222-3333-4444-555555555555"
NAME = pod_name("a", UID, 1)
Answer = bytes | KubeError | dict[str, Any]


class ScriptedWriter:
    """Answers each kind of call from a list of its own, and keeps what it was asked."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def _answer(self, call: str) -> bytes:
        self.calls.append(call)
        answer = self.answers[call].pop(0)
        if isinstance(answer, KubeError):
            raise answer
        return answer if isinstance(answer, bytes) else msgspec.json.encode(answer)

    async def get(self, path: str) -> bytes:
        return self._answer("get")

    async def create(self, path: str, body: bytes) -> bytes:
        return self._answer("create")

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        self._answer("delete")

    async def patch_status(self, path: str, body: bytes) -> bytes:
        self.status = json.loads(body)["status"]
        return self._answer("patch_status")


class Bench(Struct):
    """A reconciler on a world of its own."""

    world: World
    reconciler: Reconciler
    writer: ScriptedWriter
    now: list[float]


def bench(**answers: list[Answer]) -> Bench:
    plugins, installation, now, tasks = load(), Installation(), [time.time()], TaskCache()
    inventory = Inventory(installation.device_classes, lambda: None)
    world = World(
        tasks=tasks,
        pods=PodCache(inventory=inventory, is_open=lambda uid: tasks.get(uid) is not None, wake=lambda _: None),
        models=Models(lambda _: None),
        inputs=Presence(lambda _: None),
        inventory=inventory,
        wakeups=Wakeups(),
    )
    names = names_of(plugins, installation.plugins.extra)
    strategies = {name: plugins.device_strategies.choose(name)() for name in plugins.device_strategies.names}
    writer = ScriptedWriter(**answers)
    made = reconciler(
        world,
        writer,
        installation=installation,
        names=names,
        strategies=strategies,
        clock=lambda: now[0],
        random=lambda: 1.0,
    )
    return Bench(world=world, reconciler=made, writer=writer, now=now)


def body(version: int = 1, **status: Any) -> dict[str, Any]:
    steps = [{"name": "say", "exec": {"command": ["true"]}}]
    meta = {"name": "a", "namespace": "ns", "uid": UID, "resourceVersion": str(version), "creationTimestamp": render(time.time())}
    return {"metadata": meta, "spec": {"steps": steps}, "status": status}


def put(found: Bench, version: int = 1, **status: Any) -> None:
    task = read_task(body(version, **status))
    assert task is not None
    found.world.tasks.put(task)


def pod(owner: str = UID, **status: Any) -> dict[str, Any]:
    owners = [{"kind": "AgentTask", "uid": owner, "controller": True}]
    meta = {"name": NAME, "namespace": "ns", "uid": "p", "creationTimestamp": render(time.time()), "ownerReferences": owners}
    return {"metadata": meta, "status": {"phase": "Pending", **status}}


def see(found: Bench, **status: Any) -> Pod:
    one = msgspec.convert(pod(**status), Pod)
    found.world.pods.on_change(None, one)
    return one


TAKEN = AlreadyExists(409, "AlreadyExists", "taken")
ABSENT = NotFound(404, "NotFound", "absent")
CHANGED = Conflict(409, "Conflict", "changed")


@pytest.mark.parametrize("failure", [Unreachable("timed out"), ServerError(504, "Timeout", "late")], ids=["no answer", "a failure"])
async def test_a_pod_that_may_have_been_made_is_asked_for_before_its_task_is_cancelled(failure: KubeError) -> None:
    """The watch is late: a cancelled task is final, and nobody would stop its pod any more."""
    found = bench(create=[failure], get=[pod()], delete=[b"{}"])
    put(found)
    with pytest.raises(type(failure)):
        await found.reconciler.reconcile(UID)
    cancelled = read_task(body(2) | {"spec": body()["spec"] | {"cancel": True}})
    assert cancelled is not None
    found.world.tasks.put(cancelled)

    await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["create", "get", "delete"]


async def test_a_pod_that_was_not_made_after_all_is_made() -> None:
    found = bench(create=[Unreachable("reset"), pod()], get=[ABSENT])
    put(found)
    with pytest.raises(Unreachable):
        await found.reconciler.reconcile(UID)

    await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["create", "get", "create"]


async def test_a_refusal_is_over_when_the_pod_turns_out_to_be_there() -> None:
    """Else an attempt whose pod was lost unseen later would count as refused, and run again."""
    found = bench(create=[Forbidden(403, "Forbidden", "exceeded quota"), TAKEN], get=[pod()], patch_status=[body(2)])
    put(found)
    await found.reconciler.reconcile(UID)
    assert found.reconciler._pods.rejection(UID) is not None
    found.now[0] += 5

    await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["create", "create", "get", "patch_status"]
    assert found.writer.status["reason"] == "PodStarting"
    assert found.reconciler._pods.rejection(UID) is None


async def test_a_task_that_is_gone_needs_nothing() -> None:
    found = bench()

    assert await found.reconciler.reconcile(UID) is None
    assert found.writer.calls == []


async def test_a_name_that_was_freed_just_now_is_looked_at_again_later() -> None:
    found = bench(create=[TAKEN], get=[ABSENT])
    put(found)

    with pytest.raises(AlreadyExists):
        await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["create", "get"]
    assert found.reconciler._pods.rejection(UID) is None


@pytest.mark.parametrize(
    ("current", "kept"),
    [(ABSENT, False), (body(2, phase="Succeeded"), False), (body(2, phase="Queued"), True), ({"metadata": {"uid": "other"}}, False)],
    ids=["deleted", "final", "changed", "a namesake"],
)
async def test_after_a_conflict_the_servers_view_is_taken(current: Answer, kept: bool) -> None:
    found = bench(patch_status=[CHANGED], get=[current])
    put(found)
    see(found, phase="Failed", reason="Evicted")

    with pytest.raises(Conflict):
        await found.reconciler.reconcile(UID)

    task = found.world.tasks.get(UID)
    assert (task is not None) is kept
    assert task is None or (task.metadata.resource_version, task.status.phase) == ("2", Phase.QUEUED)


async def test_a_status_of_a_task_that_is_gone_is_forgotten_with_it() -> None:
    found = bench(patch_status=[ABSENT])
    put(found)
    see(found, phase="Failed", reason="Evicted")

    assert await found.reconciler.reconcile(UID) is None
    assert found.world.tasks.get(UID) is None


async def test_a_pod_that_is_already_gone_need_not_be_deleted() -> None:
    found = bench(delete=[ABSENT], patch_status=[body(2, phase="Failed")])
    put(found)
    see(found)
    found.now[0] += 4000

    assert await found.reconciler.reconcile(UID) is None
    assert found.writer.calls == ["delete", "patch_status"]
    assert found.writer.status["reason"] == "PendingDeadlineExceeded"


@pytest.mark.parametrize(
    ("answer", "reason"), [(ABSENT, "BackingOff"), (pod(owner="somebody else"), "BackingOff")], ids=["absent", "a stranger's"]
)
async def test_a_pod_on_record_that_no_watch_shows_is_asked_for_before_it_is_lost(answer: Answer, reason: str) -> None:
    found = bench(get=[answer], patch_status=[body(3, phase="Failed")])
    put(found, phase="Running", podName=NAME, attempt=1)

    await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["get", "patch_status"]
    assert found.writer.status["reason"] == reason


async def test_a_created_pod_that_the_watch_never_shows_is_asked_for_and_then_lost() -> None:
    found = bench(create=[pod()], get=[ABSENT], patch_status=[body(3, phase="Failed")])
    put(found)
    await found.reconciler.reconcile(UID)
    found.now[0] += EXPECTED_SECONDS + 1

    await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["create", "get", "patch_status"]
    assert found.writer.status["reason"] == "BackingOff"


def runs() -> dict[str, Any]:
    """The status of a pod whose container started a moment ago."""
    return {"phase": "Running", "containerStatuses": [{"name": "runner", "state": {"running": {"startedAt": render(time.time() - 5)}}}]}


async def test_a_pod_that_left_the_watch_by_its_labels_lives_on_and_is_asked_for_again() -> None:
    """Its disappearance is no end: another attempt beside it would be a second one at work."""
    found = bench(get=[pod(**runs()), ABSENT], patch_status=[body(3, phase="Queued")])
    put(found, phase="Running", reason="PodRunning", podName=NAME, attempt=1)
    found.world.pods.on_change(see(found, **runs()), None)

    assert await found.reconciler.reconcile(UID) == EXPECTED_SECONDS
    assert found.writer.calls == ["get"]

    found.now[0] += EXPECTED_SECONDS + 1
    await found.reconciler.reconcile(UID)
    assert found.writer.calls == ["get", "get", "patch_status"]
    assert found.writer.status["reason"] == "BackingOff"


async def test_a_pod_that_somebody_took_over_is_lost() -> None:
    found = bench(get=[pod(owner="somebody else", **runs())], patch_status=[body(3, phase="Queued")])
    put(found, phase="Running", reason="PodRunning", podName=NAME, attempt=1)
    found.world.pods.on_change(see(found, **runs()), msgspec.convert(pod(owner="", **runs()), Pod))

    await found.reconciler.reconcile(UID)

    assert found.writer.calls == ["get", "patch_status"]
    assert found.writer.status["reason"] == "BackingOff"


async def test_waiting_reasons_take_turns() -> None:
    found = bench()
    put(found)
    see(found, containerStatuses=[{"name": "runner", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}])
    found.now[0] += 10
    for other in range(10):
        found.reconciler._pace.wait(f"other-{other}", found.now[0])

    wait = await found.reconciler.reconcile(UID)

    assert wait == pytest.approx(2.0, abs=0.3)
    assert found.writer.calls == []


async def test_an_answer_that_cannot_be_read_leaves_our_view() -> None:
    found = bench(patch_status=[body(2, phase="Nonsense")])
    put(found)
    see(found, containerStatuses=[{"name": "runner", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}])
    found.now[0] += 10

    await found.reconciler.reconcile(UID)

    task = found.world.tasks.get(UID)
    assert task is not None
    assert task.metadata.resource_version == "1"
