"""Queues on a real cluster: how many run, in which order, and what a task says while it waits."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.observed import administrator, story
from tests.faults.checker import live
from tests.faults.history import Recorder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
CRDS = Path(__file__).parents[2] / "crds"
GPU = "example.com/gpu"
GATE = "kueue.x-k8s.io/admission"


def queue(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentQueue", "metadata": {"name": name}, "spec": spec}


def quota(**hard: object) -> dict[str, Any]:
    amounts = {name: str(amount) for name, amount in hard.items()}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": amounts}}


def task(name: str, queue: str, seconds: int = 0, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    steps = [{"name": "work", "exec": {"command": ["sleep", str(seconds)]}}]
    resources = {"requests": {"cpu": "20m", "memory": "64Mi"}}
    return {
        "apiVersion": "agenttask.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {"steps": steps, "queue": queue, "pod": {"resources": resources}, **spec},
    }


@contextmanager
def controlled(name: str, environment: dict[str, str], log: Path, settings: Mapping[str, str]) -> Iterator[Namespace]:
    """A namespace of its own, with a controller of this checkout as a process of this machine."""
    namespace = Namespace(name=f"{name}-{secrets.token_hex(3)}", environment=environment)
    namespace.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    namespace.kubectl("create", "namespace", namespace.name)
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "agenttask.controller.main", "--namespace", namespace.name, *flags]
    with log.open("ab") as output:
        controller = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        yield namespace
    finally:
        controller.send_signal(signal.SIGTERM)
        status = controller.wait(timeout=120)
        namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")
    assert status == 0, log.read_text()[-3000:]


@pytest.fixture(scope="module")
def place(cluster_environment: dict[str, str], images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    log = tmp_path_factory.mktemp("queues") / "controller.log"
    with controlled("queues", cluster_environment, log, {"images.runner": images["runner"], "probePort": "0"}) as namespace:
        yield namespace


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the controller of `tight` writes."""
    return tmp_path / "controller.log"


@pytest.fixture
def tight(cluster_environment: dict[str, str], images: Mapping[str, str], log: Path) -> Iterator[Namespace]:
    """A namespace for quotas; its nodes are not read, so only a quota can tell that there is no GPU."""
    classes = f"[{{name: gpu, kind: cuda, resources: {{{GPU}: 1}}, image: '{images['runner']}'}}, {{name: cpu}}]"
    settings = {"images.runner": images["runner"], "probePort": "0", "nodes": "false", "deviceClasses": classes}
    with controlled("quotas", cluster_environment, log, settings) as namespace:
        yield namespace


def quota_holds(place: Namespace, **hard: object) -> None:
    """Apply a quota, and wait until it is heeded."""
    place.apply(quota(**hard))
    place.kubectl("wait", "--for=jsonpath={.status.hard}", "resourcequota/few", "--timeout=60s")


def all_paused(place: Namespace, names: Iterable[str], *, seconds: float = 120) -> None:
    """Wait until all these tasks are in their line, which is paused."""
    end = time.monotonic() + seconds
    while True:
        tasks = place.tasks()
        reasons = {name: tasks[name].get("status", {}).get("reason") for name in names}
        if set(reasons.values()) == {"QueuePaused"}:
            return
        assert time.monotonic() < end, reasons
        time.sleep(0.5)


def lived(recorder: Recorder, prefix: str) -> tuple[int, list[str]]:
    """How many of these tasks' containers lived at once at most, and the tasks as their pods were made; from every version of a pod.

    The kubelet tells of a container's end a second before it calls the pod Succeeded.
    """
    most, order, now = 0, list[str](), set[str]()
    for one in recorder.versions:
        name = one.object["metadata"].get("labels", {}).get("agenttask.dev/task-name", "")
        if one.plural != "pods" or not name.startswith(prefix):
            continue
        if one.kind == "ADDED":
            order.append(name)
        if one.kind != "DELETED" and live(one.object):
            now.add(name)
        else:
            now.discard(name)
        most = max(most, len(now))
    return most, order


async def test_two_of_six_run_at_once_by_priority(place: Namespace) -> None:
    names = [f"pair-{priority}" for priority in (0, 10, 20, 30, 40, 50)]
    with administrator(place) as client:
        async with client as api, Recorder(api, place.name) as recorder:
            await asyncio.to_thread(two_of_six, place, names)
            found = await asyncio.to_thread(place.all_ended, names, seconds=240)
            await recorder.until(lambda: len(lived(recorder, "pair-")[1]) >= 6, 60)
    most, order = lived(recorder, "pair-")

    assert {one["phase"] for one in found.values()} == {"Succeeded"}
    assert most == 2
    assert [set(order[:2]), set(order[2:4]), set(order[4:])] == [{"pair-50", "pair-0"}, {"pair-40", "pair-30"}, {"pair-20", "pair-10"}]
    assert len(order) == 6


def two_of_six(place: Namespace, names: list[str]) -> None:
    """Let two of these tasks run at once, by their numbers; only the one of 0 comes after that of 50."""
    place.apply(queue("pair", concurrency=2, paused=True))
    place.apply(*(task(name, "pair", 2, priority=int(name.rpartition("-")[2])) for name in names))
    all_paused(place, names)
    paused = place.until("pair-50", lambda status: status.get("queuePosition") == 1, seconds=60)
    assert (paused["phase"], paused["reason"]) == ("Queued", "QueuePaused"), paused
    place.until("pair-0", lambda status: status.get("queuePosition") == len(names), seconds=60)
    place.kubectl("patch", "agenttask", "pair-0", "--type=merge", "-p", json.dumps({"spec": {"priority": 45}}))
    place.until("pair-0", lambda status: status.get("queuePosition") == 2, seconds=60)  # of tasks and of queues the controller hears apart
    place.kubectl("patch", "agentqueue", "pair", "--type=merge", "-p", json.dumps({"spec": {"paused": False}}))


def test_a_queue_that_comes_later_lets_its_task_go(place: Namespace) -> None:
    place.apply(task("early", "later"))
    status = place.until("early", lambda status: status.get("reason") == "UnknownQueue", seconds=60)
    assert "no AgentQueue 'later'" in status["message"]

    place.apply(queue("later"))

    assert place.ended("early")["phase"] == "Succeeded"


def test_a_queue_shows_how_long_it_is(place: Namespace) -> None:
    place.apply(queue("short", concurrency=1), task("short-a", "short", 600), task("short-b", "short", 600))
    place.until("short-a", lambda status: status.get("phase") == "Running", seconds=60)
    place.until("short-b", lambda status: status.get("reason") == "QueueFull", seconds=60)

    def status() -> dict[str, Any]:
        return dict(json.loads(place.kubectl("get", "agentqueue", "short", "-o", "json")).get("status", {}))

    end = time.monotonic() + 150  # a status that the API server has not taken is written a minute later
    while ((shown := status()).get("running"), shown.get("pending")) != (1, 1):
        assert time.monotonic() < end, shown
        time.sleep(0.5)
    assert "oldestPendingTime" in shown
    assert place.kubectl("get", "atq", "short", "--no-headers").split()[:4] == ["short", "1", "1", "1"]
    place.kubectl("delete", "agentqueue", "short")
    place.until("short-b", lambda status: status.get("reason") == "UnknownQueue", seconds=60)
    assert place.tasks()["short-a"]["status"]["phase"] == "Running"
    place.kubectl("delete", "agenttasks", "short-a", "short-b", "--wait=false")


def test_a_bound_on_a_class_that_is_not_defined_is_told_in_the_queues_condition(place: Namespace) -> None:
    place.apply(queue("typo", devices={"cpuu": 1}))
    place.kubectl("wait", "--for=condition=Accepted=false", "agentqueue/typo", "--timeout=100s")
    (condition,) = json.loads(place.kubectl("get", "agentqueue", "typo", "-o", "json"))["status"]["conditions"]
    assert condition["reason"] == "UnknownClass"
    assert "no device class is called 'cpuu'" in condition["message"]
    assert condition["message"].endswith("the installation defines: cpu; did you mean 'cpu'?")
    place.apply(queue("typo", devices={"cpu": 1}))
    place.kubectl("wait", "--for=condition=Accepted", "agentqueue/typo", "--timeout=100s")


def test_a_pod_for_kueue_waits_until_somebody_lets_it_go(place: Namespace) -> None:
    place.apply(task("gated", "default", labels={"kueue.x-k8s.io/queue-name": "team"}))
    status = place.until("gated", lambda status: status.get("reason") == "SchedulingGated", seconds=60)
    pod = json.loads(place.kubectl("get", "pod", status["podName"], "-o", "json"))
    assert pod["spec"]["schedulingGates"] == [{"name": GATE}]
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/managed"] == "true"

    ungate = [{"op": "remove", "path": "/spec/schedulingGates"}]
    place.kubectl("patch", "pod", status["podName"], "--type=json", "-p", json.dumps(ungate))

    assert place.ended("gated")["phase"] == "Succeeded"


async def test_a_slot_is_taken_until_the_pod_of_a_deleted_task_is_gone(place: Namespace) -> None:
    with administrator(place) as client:
        async with client as api, Recorder(api, place.name) as recorder:
            ended = await asyncio.to_thread(one_after_the_other, place)
            await recorder.until(lambda: "single-b" in lived(recorder, "single-")[1], 60)

    assert lived(recorder, "single-") == (1, ["single-a", "single-b"]), story(recorder, "single-")
    assert ended["phase"] == "Succeeded"


def one_after_the_other(place: Namespace) -> dict[str, Any]:
    """Delete a task that runs, while another one waits for its slot: the other's end."""
    place.apply(queue("single", concurrency=1), task("single-a", "single", 600))
    place.until("single-a", lambda status: status.get("phase") == "Running", seconds=60)
    place.apply(task("single-b", "single"))
    place.until("single-b", lambda status: status.get("reason") == "QueueFull", seconds=60)
    place.kubectl("delete", "agenttask", "single-a", "--wait=false")
    return place.ended("single-b")


def test_under_a_quota_forty_tasks_start_by_priority_and_few_pods_are_refused(tight: Namespace, log: Path) -> None:
    quota_holds(tight, pods=4)
    tight.apply(queue("line", paused=True))
    names = {f"{kind}-{number:02}": priority for kind, priority in (("low", 0), ("high", 10)) for number in range(20)}
    tight.apply(*(task(name, "line", 1, priority=priority) for name, priority in names.items()))
    all_paused(tight, names)
    began = time.monotonic()
    tight.kubectl("patch", "agentqueue", "line", "--type=merge", "-p", json.dumps({"spec": {"paused": False, "agingSeconds": 0}}))
    waits = tight.until("low-19", lambda status: status.get("reason") == "Unschedulable", seconds=120)
    found = tight.all_ended(names, seconds=600)
    lasted = time.monotonic() - began
    made = {pod["metadata"]["labels"]["agenttask.dev/task-name"]: pod["metadata"]["creationTimestamp"] for pod in tight.pods()}

    assert "exceeded quota: few, requested: pods=1, used: pods=4, limited: pods=4" in waits["message"]
    assert {one["phase"] for one in found.values()} == {"Succeeded"}
    first_low, told = min(at for name, at in made.items() if name.startswith("low")), log.read_text()
    overtaken = [name for name, at in made.items() if name.startswith("high") and at > first_low]
    # Of those that are tried at once the API server takes whichever it likes, and refuses the others.
    assert all(f"/{name}: pod refused" in told for name in overtaken), overtaken
    assert len(overtaken) <= 2
    assert told.count("pod refused") <= max(60, lasted)  # where pods take long one is tried in between


def test_a_quota_of_nothing_is_waited_for_and_a_raised_one_found(tight: Namespace, log: Path) -> None:
    quota_holds(tight, pods=0)
    began = time.monotonic()
    tight.apply(*(task(f"poor-{number}", "default", priority=number) for number in range(10)))
    waits = tight.until("poor-9", lambda status: status.get("reason") == "Unschedulable", seconds=120)
    assert (waits["phase"], waits["queuePosition"]) == ("Queued", 1)
    assert "limited: pods=0" in waits["message"]
    time.sleep(20)
    refused, lasted = log.read_text().count("pod refused"), time.monotonic() - began
    tight.apply(quota(pods=10))
    found = tight.all_ended([f"poor-{number}" for number in range(10)], seconds=300)

    assert refused <= 10 + 8 + max(0.0, lasted - 40) / 10  # by then one try follows another after ten seconds at least
    assert {one["phase"] for one in found.values()} == {"Succeeded"}


def test_a_gpu_that_a_quota_does_not_grant_sends_the_task_to_its_next_class(tight: Namespace) -> None:
    quota_holds(tight, **{f"requests.{GPU}": 0})
    tight.apply(task("either", "default", device={"classes": ["gpu", "cpu"]}), task("only", "default", device={"classes": ["gpu"]}))
    found = tight.ended("either")
    only = tight.until("only", lambda status: status.get("reason") == "WaitingForDevice", seconds=60)

    assert (found["phase"], found["device"]["class"]) == ("Succeeded", "cpu")
    assert found["device"]["reason"].startswith("gpu: exceeded quota: few")
    assert f"limited: requests.{GPU}=0" in only["message"]
