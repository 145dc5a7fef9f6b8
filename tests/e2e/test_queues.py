"""Queues on a real cluster: how many run, in which order, and what a task says while it waits."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster
CRDS = Path(__file__).parents[2] / "crds"
GATE = "kueue.x-k8s.io/admission"


def queue(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentQueue", "metadata": {"name": name}, "spec": spec}


def task(name: str, queue: str, seconds: int = 0, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    steps = [{"name": "work", "exec": {"command": ["sleep", str(seconds)]}}]
    resources = {"requests": {"cpu": "20m", "memory": "64Mi"}}
    return {
        "apiVersion": "agenttask.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {"steps": steps, "queue": queue, "pod": {"resources": resources}, **spec},
    }


@pytest.fixture(scope="module")
def place(cluster_environment: dict[str, str], images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """A namespace of its own, with a controller of this checkout as a process of this machine."""
    namespace = Namespace(name=f"queues-{secrets.token_hex(3)}", environment=cluster_environment)
    namespace.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    namespace.kubectl("create", "namespace", namespace.name)
    settings = {"images.runner": images["runner"], "probePort": "0"}
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    log = tmp_path_factory.mktemp("queues") / "controller.log"
    command = [sys.executable, "-m", "agenttask.controller.main", "--namespace", namespace.name, *flags]
    with log.open("ab") as output:
        controller = subprocess.Popen(command, env={**os.environ, **cluster_environment}, stdout=output, stderr=output)
    try:
        yield namespace
    finally:
        controller.send_signal(signal.SIGTERM)
        status = controller.wait(timeout=30)
        namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")
    assert status == 0, log.read_text()[-3000:]


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
    assert place.tasks()["short-a"]["status"]["phase"] in ("Starting", "Running")
    place.kubectl("delete", "agenttasks", "short-a", "short-b", "--wait=false")


def test_a_pod_for_kueue_waits_until_somebody_lets_it_go(place: Namespace) -> None:
    place.apply(task("gated", "default", labels={"kueue.x-k8s.io/queue-name": "team"}))
    status = place.until("gated", lambda status: status.get("reason") == "SchedulingGated", seconds=60)
    pod = json.loads(place.kubectl("get", "pod", status["podName"], "-o", "json"))
    assert pod["spec"]["schedulingGates"] == [{"name": GATE}]
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/managed"] == "true"

    ungate = [{"op": "remove", "path": "/spec/schedulingGates"}]
    place.kubectl("patch", "pod", status["podName"], "--type=json", "-p", json.dumps(ungate))

    assert place.ended("gated")["phase"] == "Succeeded"
