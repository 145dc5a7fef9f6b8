"""Two replicas: one leads, the other one takes over when it goes, and no task notices."""

import json
import time

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.test_attempts import task

pytestmark = pytest.mark.cluster
CONTROLLERS = "app.kubernetes.io/component=controller"


def holder(release: Namespace) -> str:
    """The pod that holds the Lease, or nothing."""
    lease = json.loads(release.kubectl("get", "lease", "agenttask-agenttask-operator", "-o", "json"))
    return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]


def controllers(release: Namespace) -> dict[str, bool]:
    """The controller's pods and whether they are ready."""
    return {
        pod["metadata"]["name"]: any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        for pod in release.pods(CONTROLLERS)
        if "deletionTimestamp" not in pod["metadata"]
    }


def test_a_standby_is_ready_and_takes_over_from_a_leader_that_goes(release: Namespace) -> None:
    end = time.monotonic() + 120  # a busy node may have started one anew just now
    while (leader := holder(release)) not in (replicas := controllers(release)) or list(replicas.values()) != [True, True]:
        assert time.monotonic() < end, (leader, replicas)
        time.sleep(0.5)
    release.apply(task("through", "sleep 30"))
    before = release.until("through", lambda status: status.get("phase") == "Running", seconds=90)

    release.kubectl("delete", "pod", leader, "--wait=false")
    end = time.monotonic() + 120
    while (now := holder(release)) in ("", leader):
        assert time.monotonic() < end, f"nobody took over from {leader}"
        time.sleep(0.2)
    release.apply(task("after", "true"))

    after = release.ended("after")
    through = release.ended("through")
    assert now in controllers(release)  # the standby, or on a busy node the one that came in the leader's place
    assert after["phase"] == "Succeeded", after
    assert (through["phase"], through["attempt"], through["podName"]) == ("Succeeded", 1, before["podName"]), through
    assert len(release.pods("agenttask.dev/task-name=through")) == 1
    release.kubectl("rollout", "status", "deployment/agenttask-agenttask-operator", "--timeout=120s", timeout=150)
