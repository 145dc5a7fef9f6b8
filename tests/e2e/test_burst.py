"""Kill the controller with SIGKILL in the middle of a hundred tasks: a hundred results, and no pod twice."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TASKS = 100
ENDED = ("Succeeded", "Failed")


def task(index: int) -> dict[str, Any]:
    steps = [{"name": "a", "write": {"path": "a.txt", "content": f"result {index}"}}, {"name": "b", "read": {"paths": ["a.txt"]}}]
    spec = {"steps": steps, "pod": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}}
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": f"burst-{index}"}, "spec": spec}


@pytest.fixture
def place(release: Namespace) -> Iterator[Namespace]:
    """A namespace that the installed controller does not watch."""
    namespace = Namespace(name=f"burst-{secrets.token_hex(3)}", environment=release.environment)
    namespace.kubectl("create", "namespace", namespace.name)
    yield namespace
    namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")


def controller(namespace: Namespace, images: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """The controller as a process of this machine, by kubeconfig."""
    settings = {"images.runner": images["runner"], "probePort": "0"}
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "agenttask.controller.main", "--namespace", namespace.name, *flags]
    with log.open("ab") as output:
        return subprocess.Popen(command, env={**os.environ, **namespace.environment}, stdout=output, stderr=output)


def ended(namespace: Namespace) -> dict[str, str]:
    """Phase by name of the tasks that have ended."""
    return {name: one["status"]["phase"] for name, one in namespace.tasks().items() if one.get("status", {}).get("phase") in ENDED}


def test_a_controller_killed_in_mid_burst_loses_and_repeats_nothing(place: Namespace, images: Mapping[str, str], tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    first = controller(place, images, log)
    try:
        place.apply(*(task(index) for index in range(TASKS)))
        deadline = time.monotonic() + 300
        while len(ended(place)) < TASKS // 10:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    at_the_kill = len(ended(place))
    second = controller(place, images, log)
    try:
        place.all_ended([f"burst-{index}" for index in range(TASKS)], seconds=900)
        tasks = place.tasks()
        pods = place.pods("agenttask.dev/task-uid")
    finally:
        second.send_signal(signal.SIGTERM)
        status = second.wait(timeout=120)
    assert at_the_kill < TASKS
    assert {name: one["status"].get("output") for name, one in tasks.items()} == {
        f"burst-{index}": f"result {index}" for index in range(TASKS)
    }, Counter(one["status"]["reason"] for one in tasks.values())
    owners = Counter(pod["metadata"]["labels"]["agenttask.dev/task-uid"] for pod in pods)
    assert owners == {one["metadata"]["uid"]: 1 for one in tasks.values()}
    assert status == 0, log.read_text()[-3000:]
