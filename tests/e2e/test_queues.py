"""Queues on a real cluster: how many run, in which order, and what a task says while it waits."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster
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
        status = controller.wait(timeout=30)
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


def live(place: Namespace, prefix: str) -> set[str]:
    """Tasks whose container has not ended; the kubelet tells of that a second before it calls the pod Succeeded."""
    return {
        name
        for pod in place.pods("agenttask.dev/task-uid")
        if (name := pod["metadata"]["labels"]["agenttask.dev/task-name"]).startswith(prefix)
        and not any("terminated" in one["state"] for one in pod["status"].get("containerStatuses", []))
    }


def test_two_of_six_run_at_once_by_priority(place: Namespace) -> None:
    place.apply(queue("pair", concurrency=2, paused=True))
    place.apply(*(task(f"pair-{priority}", "pair", 2, priority=priority) for priority in (0, 10, 20, 30, 40, 50)))
    paused = place.until("pair-50", lambda status: status.get("reason") == "QueuePaused", seconds=60)
    assert (paused["phase"], paused["queuePosition"]) == ("Queued", 1), paused
    place.kubectl("patch", "agenttask", "pair-0", "--type=merge", "-p", json.dumps({"spec": {"priority": 45}}))
    place.kubectl("patch", "agentqueue", "pair", "--type=merge", "-p", json.dumps({"spec": {"paused": False}}))

    most, order, end = 0, list[str](), time.monotonic() + 150
    while len(order) < 6 or live(place, "pair-"):
        assert time.monotonic() < end, order
        now = live(place, "pair-")
        most = max(most, len(now))
        order += sorted(now.difference(order))
        time.sleep(0.1)
    found = place.all_ended([f"pair-{priority}" for priority in (0, 10, 20, 30, 40, 50)], seconds=30)

    assert {one["phase"] for one in found.values()} == {"Succeeded"}
    assert most == 2
    assert [set(order[:2]), set(order[2:4]), set(order[4:])] == [{"pair-50", "pair-0"}, {"pair-40", "pair-30"}, {"pair-20", "pair-10"}]


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

    end = time.monotonic() + 30
    while (shown := status()).get("pending") != 1:
        assert time.monotonic() < end, shown
        time.sleep(0.5)
    assert (shown["running"], "oldestPendingTime" in shown) == (1, True)
    assert place.kubectl("get", "atq", "short", "--no-headers").split()[:4] == ["short", "1", "1", "1"]
    place.kubectl("delete", "agentqueue", "short")
    place.until("short-b", lambda status: status.get("reason") == "UnknownQueue", seconds=60)
    assert place.tasks()["short-a"]["status"]["phase"] == "Running"
    place.kubectl("delete", "agenttasks", "short-a", "short-b", "--wait=false")


def test_a_bound_on_a_class_that_is_not_defined_is_told_in_the_queues_condition(place: Namespace) -> None:
    place.apply(queue("typo", devices={"cpuu": 1}))
    place.kubectl("wait", "--for=condition=Accepted=false", "agentqueue/typo", "--timeout=30s")
    (condition,) = json.loads(place.kubectl("get", "agentqueue", "typo", "-o", "json"))["status"]["conditions"]
    assert condition["reason"] == "UnknownClass"
    assert "no device class is called 'cpuu'" in condition["message"]
    assert condition["message"].endswith("the installation defines: cpu; did you mean 'cpu'?")
    place.apply(queue("typo", devices={"cpu": 1}))
    place.kubectl("wait", "--for=condition=Accepted", "agentqueue/typo", "--timeout=30s")


def test_a_pod_for_kueue_waits_until_somebody_lets_it_go(place: Namespace) -> None:
    place.apply(task("gated", "default", labels={"kueue.x-k8s.io/queue-name": "team"}))
    status = place.until("gated", lambda status: status.get("reason") == "SchedulingGated", seconds=60)
    pod = json.loads(place.kubectl("get", "pod", status["podName"], "-o", "json"))
    assert pod["spec"]["schedulingGates"] == [{"name": GATE}]
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/managed"] == "true"

    ungate = [{"op": "remove", "path": "/spec/schedulingGates"}]
    place.kubectl("patch", "pod", status["podName"], "--type=json", "-p", json.dumps(ungate))

    assert place.ended("gated")["phase"] == "Succeeded"


def test_a_slot_is_taken_until_the_pod_of_a_deleted_task_is_gone(place: Namespace) -> None:
    place.apply(queue("single", concurrency=1), task("single-a", "single", 600))
    place.until("single-a", lambda status: status.get("phase") == "Running", seconds=60)
    place.apply(task("single-b", "single"))
    place.until("single-b", lambda status: status.get("reason") == "QueueFull", seconds=60)
    place.kubectl("delete", "agenttask", "single-a", "--wait=false")

    most, end = 0, time.monotonic() + 120
    while "single-b" not in (now := live(place, "single-")):
        assert time.monotonic() < end
        most = max(most, len(now))
        time.sleep(0.2)

    assert (most, now) == (1, {"single-b"})
    assert place.ended("single-b")["phase"] == "Succeeded"


def test_under_a_quota_forty_tasks_start_by_priority_and_few_pods_are_refused(tight: Namespace, log: Path) -> None:
    tight.apply(quota(pods=4), queue("line", paused=True))
    names = {f"{kind}-{number:02}": priority for kind, priority in (("low", 0), ("high", 10)) for number in range(20)}
    tight.apply(*(task(name, "line", 1, priority=priority) for name, priority in names.items()))
    tight.until("low-19", lambda status: status.get("reason") == "QueuePaused", seconds=60)
    tight.kubectl("patch", "agentqueue", "line", "--type=merge", "-p", json.dumps({"spec": {"paused": False, "agingSeconds": 0}}))
    waits = tight.until("low-19", lambda status: status.get("reason") == "Unschedulable", seconds=60)
    found = tight.all_ended(names, seconds=240)
    made = {pod["metadata"]["labels"]["agenttask.dev/task-name"]: pod["metadata"]["creationTimestamp"] for pod in tight.pods()}

    assert "exceeded quota: few, requested: pods=1, used: pods=4, limited: pods=4" in waits["message"]
    assert {one["phase"] for one in found.values()} == {"Succeeded"}
    assert max(at for name, at in made.items() if name.startswith("high")) <= min(at for name, at in made.items() if name.startswith("low"))
    assert log.read_text().count("pod refused") <= 60


def test_a_quota_of_nothing_is_waited_for_and_a_raised_one_found(tight: Namespace, log: Path) -> None:
    tight.apply(quota(pods=0), *(task(f"poor-{number}", "default", priority=number) for number in range(10)))
    waits = tight.until("poor-9", lambda status: status.get("reason") == "Unschedulable", seconds=60)
    assert (waits["phase"], waits["queuePosition"]) == ("Queued", 1)
    assert "limited: pods=0" in waits["message"]
    time.sleep(20)
    refused = log.read_text().count("pod refused")
    tight.apply(quota(pods=10))
    found = tight.all_ended([f"poor-{number}" for number in range(10)], seconds=90)

    assert refused <= 10 + 8
    assert {one["phase"] for one in found.values()} == {"Succeeded"}


def test_a_gpu_that_a_quota_does_not_grant_sends_the_task_to_its_next_class(tight: Namespace) -> None:
    tight.apply(quota(**{f"requests.{GPU}": 0}))
    tight.apply(task("either", "default", device={"classes": ["gpu", "cpu"]}), task("only", "default", device={"classes": ["gpu"]}))
    found = tight.ended("either")
    only = tight.until("only", lambda status: status.get("reason") == "WaitingForDevice", seconds=60)

    assert (found["phase"], found["device"]["class"]) == ("Succeeded", "cpu")
    assert found["device"]["reason"].startswith("gpu: exceeded quota: few")
    assert f"limited: requests.{GPU}=0" in only["message"]
