"""The real kubelet ends and comes back under a task of several steps: the containers run on, and the task notices nothing.

Only where the cluster is this machine's own (tests/cluster), for it takes a kubelet's process to end one. Tests of this folder run one
after the other, and the kubelet is back and everything ready before the next one begins, whatever becomes of this one.
"""

import asyncio
import math
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agenttask.api.constants import CONTAINER
from agenttask.domain import moment
from tests.e2e.cluster import Namespace
from tests.e2e.observed import administrator, story, violations
from tests.faults.checker import End
from tests.faults.history import Recorder, Write, begun_after, read_writes

pytestmark = pytest.mark.cluster
LOCALKUBE = Path(__file__).parents[1] / "cluster" / "localkube"
CONTROLLERS = "deployment/agenttask-agenttask-operator"
QUIET_SECONDS = 3.0
END_SECONDS = 120
"""Some twenty are left to the steps of a task that has ended its first one."""


class Kubelet:
    """The node's."""

    def __init__(self, release: Namespace) -> None:
        self._release = release

    async def do(self, what: str) -> None:
        """stop, start, restart, or kill (SIGKILL)."""
        await asyncio.to_thread(self.order, what)

    def order(self, what: str) -> None:
        """The same, without a loop."""
        done = subprocess.run([LOCALKUBE, what, "kubelet"], capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    async def until_ended(self, container: str) -> None:
        """Wait until a container has ended, whoever is there to tell of it."""
        ends = time.monotonic() + END_SECONDS
        while container in (running := await asyncio.to_thread(self._running)):
            assert time.monotonic() < ends, running
            await asyncio.sleep(0.5)
        await asyncio.sleep(2 * moment.GRAIN)  # the runtime's times are told in whole seconds

    def _running(self) -> list[str]:
        """The containers that run, by the runtime's word."""
        socket = Path(self._release.environment["KUBECONFIG"]).parents[1] / "run" / "containerd.sock"
        command = ["ctr", f"--address={socket}", "--namespace=k8s.io", "tasks", "list"]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        return [name for name, _, state in (line.split() for line in listed) if state == "RUNNING"]

    def mend(self) -> None:
        """Start it if it is down; wait until the node and the controllers are ready."""
        self.order("start")
        self._release.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s", timeout=150)
        self._release.kubectl("rollout", "status", CONTROLLERS, "--timeout=120s", timeout=150)


@pytest.fixture
def kubelet(release: Namespace) -> Iterator[Kubelet]:
    """It is up again when the test is over, however it ended."""
    node = Kubelet(release)
    try:
        yield node
    finally:
        node.mend()


def step(name: str, command: str) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", command]}, "keepFiles": ["story.txt"]}


def task(name: str) -> dict[str, Any]:
    """Four steps that write on in one file; the last one tells all of it. The second one lasts until status tells of the first."""
    steps = (
        step("one", "echo one {{ attempt }} >> story.txt"),
        step("two", "sleep 15; echo two {{ attempt }} >> story.txt"),
        step("three", "sleep 6; echo three {{ attempt }} >> story.txt"),
        step("four", "cat story.txt"),
    )
    spec = {"steps": list(steps), "output": "{{ steps.four.text }}"}
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec}


def pods_made(writes: list[Write], name: str) -> list[str]:
    """The pods that were made for a task, as the audit log has it."""
    return [
        one.name for one in writes if (one.verb, one.plural, one.subresource, one.code) == ("create", "pods", "", 201) and name in one.name
    ]


def container(recorder: Recorder, pod: str) -> dict[str, Any]:
    """What is told of a pod's container; nothing before it is made."""
    versions = [one.object for one in recorder.versions if one.plural == "pods" and one.name == pod and one.kind != "DELETED"]
    found = [one for last in versions[-1:] for one in last["status"].get("containerStatuses", []) if one["name"] == CONTAINER]
    return dict(found[0]) if found else {}


def container_ended(recorder: Recorder, pod: str) -> float:
    """When a pod's container had ended at the latest, as its runtime has it (Unix seconds)."""
    told = container(recorder, pod)
    at = moment.parse(told["state"]["terminated"]["finishedAt"])
    assert at is not None
    return at + moment.GRAIN


class Audit:
    """What is written in a namespace from now on; nothing where the cluster keeps no log."""

    def __init__(self, namespace: str) -> None:
        self._namespace, self.log = namespace, os.environ.get("LK_AUDIT")
        self._offset = Path(self.log).stat().st_size if self.log else 0

    def writes(self) -> list[Write]:
        return read_writes(Path(self.log), self._offset, self._namespace) if self.log else []


if os.environ.get("CLUSTER", "local") == "local":

    @pytest.mark.parametrize("how", ["restart", "kill"])
    async def test_a_task_of_several_steps_outlives_the_end_of_its_kubelet(release: Namespace, kubelet: Kubelet, how: str) -> None:
        """`restart`: TERM in step two. `kill`: SIGKILL in step two, and the pod ends while nobody is there to tell of it."""
        name = f"kubelet-{how}"
        audit = Audit(release.name)
        with administrator(release) as client:
            async with client as api, Recorder(api, release.name) as recorder:
                await asyncio.to_thread(release.apply, task(name))
                await recorder.until(lambda: recorder.status(name).get("progress") == "1/4", 120, what=lambda: story(recorder, name))
                back = math.inf
                if how == "restart":
                    await kubelet.do("restart")
                else:
                    await kubelet.do("kill")
                    pod = recorder.status(name)["podName"]
                    await recorder.until(lambda: "running" in container(recorder, pod).get("state", {}), 60)
                    await kubelet.until_ended(container(recorder, pod)["containerID"].removeprefix("containerd://"))
                    assert recorder.status(name)["phase"] == "Running", "the pod has ended, and nobody could know"
                    back = time.time()
                    await kubelet.do("start")
                status = await recorder.until_phase(name, "Succeeded", "Failed", seconds=180)
                settled = datetime.now(UTC)
                await asyncio.sleep(QUIET_SECONDS)
                output = "one 1\ntwo 1\nthree 1"
                end = End(phase="Succeeded", reason="Succeeded")
                assert violations(recorder, name, end) == [], story(recorder, name)
                assert (status["attempt"], status.get("infrastructureRestarts", 0), status["output"].strip()) == (1, 0, output), status
                assert [(one["name"], one["phase"]) for one in status["steps"]] == [
                    (step, "Succeeded") for step in ("one", "two", "three", "four")
                ]
                assert container_ended(recorder, status["podName"]) < back, "it ended under the kubelet that came back: nothing was tried"
                assert recorder.ever(name) == [status["podName"]]
        if audit.log:
            writes = audit.writes()
            assert pods_made(writes, name) == [status["podName"]]
            after = begun_after(writes, settled)
            late = [one for one in after if name in one.name and one.plural == "agenttasks" and "operator" in one.user]
            assert late == [], "it was written on after its end"
