"""Attempts on a real cluster: failures and evictions counted apart, pods taken away, suspension, cancelling, time to live."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.observed import administrator, story
from tests.faults.history import Recorder

pytestmark = pytest.mark.cluster
RETRY = {"limit": 1, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}


def task(name: str, command: str, **spec: Any) -> dict[str, Any]:
    steps = [{"name": "say", "exec": {"command": ["sh", "-c", command]}}]
    return {
        "apiVersion": "agenttask.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": name},
        "spec": {"steps": steps, "retry": RETRY, **spec},
    }


def running(release: Namespace, name: str, attempt: int = 1) -> str:
    """The pod of this attempt, once its container runs."""
    found = release.until(name, lambda status: status.get("phase") == "Running" and status.get("attempt") == attempt, seconds=90)
    return str(found["podName"])


def test_a_failure_is_tried_again_and_both_pods_can_be_read(release: Namespace) -> None:
    release.apply(task("again", "echo this is attempt {{ attempt }}; test {{ attempt }} = 2"))

    status = release.ended("again")

    assert (status["phase"], status["attempt"], status["failures"]) == ("Succeeded", 2, 1), status
    assert "infrastructureRestarts" not in status
    pods = sorted(pod["metadata"]["name"] for pod in release.pods("agenttask.dev/task-name=again"))
    assert [name.rpartition("-")[2] for name in pods] == ["1", "2"]
    assert ["this is attempt 1" in release.kubectl("logs", name) for name in pods] == [True, False]


def test_the_last_failure_says_how_often_it_was_tried(release: Namespace) -> None:
    release.apply(task("never", "exit 3"))

    status = release.ended("never")

    assert (status["phase"], status["reason"], status["failures"]) == ("Failed", "BackoffLimitExceeded", 2)
    assert "2 attempts ended badly, and retry.limit is 1; the last: StepFailed: step 'say': exited 3" in status["message"]


def test_two_evictions_spend_nothing_of_the_retry_limit(release: Namespace) -> None:
    release.apply(task("evicted", "test {{ attempt }} -gt 2 && exit $((4 - {{ attempt }})); sleep 600"))

    for attempt in (1, 2):
        pod = running(release, "evicted", attempt)
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": release.name}}
        release.kubectl("create", "--raw", f"/api/v1/namespaces/{release.name}/pods/{pod}/eviction", "-f", "-", stdin=json.dumps(eviction))
    status = release.ended("evicted")

    assert (status["phase"], status["attempt"]) == ("Succeeded", 4), status
    assert (status["infrastructureRestarts"], status["failures"]) == (2, 1)


def test_a_pod_deleted_by_force_is_followed_by_another_unless_the_task_forbids_it(release: Namespace) -> None:
    command = "test {{ attempt }} = 2 || sleep 600"
    release.apply(task("forced", command), task("once", command, execution={"atMostOnce": True}))

    for name in ("forced", "once"):
        release.kubectl("delete", "pod", running(release, name), "--force", "--grace-period=0")
    forced, once = release.ended("forced"), release.ended("once")

    assert (forced["phase"], forced["attempt"], forced["infrastructureRestarts"]) == ("Succeeded", 2, 1), forced
    assert (once["phase"], once["reason"], once["attempt"]) == ("Failed", "Lost", 1), once
    assert "atMostOnce" in once["message"]
    assert len(release.pods("agenttask.dev/task-name=once")) == 0


def test_a_suspended_task_frees_its_pod_and_goes_on_later(release: Namespace) -> None:
    release.apply(task("paused", "test {{ attempt }} = 2 || sleep 600"))
    running(release, "paused")

    release.kubectl("patch", "at", "paused", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    status = release.until("paused", lambda status: status.get("phase") == "Suspended", seconds=90)
    assert (status["reason"], status["endedAttempts"]) == ("Suspended", 1)
    assert "failures" not in status
    release.kubectl("wait", "--for=delete", "pod", "-l", "agenttask.dev/task-name=paused", "--timeout=90s")
    assert release.pods("agenttask.dev/task-name=paused") == []
    release.kubectl("wait", "--for=condition=Suspended", "at/paused", "--timeout=10s")

    release.kubectl("patch", "at", "paused", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    status = release.ended("paused")
    assert (status["phase"], status["attempt"]) == ("Succeeded", 2), status


def test_a_task_can_wait_suspended_from_the_start(release: Namespace) -> None:
    release.apply(task("asleep", "true", suspend=True))

    status = release.until("asleep", lambda status: status.get("phase") == "Suspended", seconds=90)
    assert "podName" not in status
    assert release.pods("agenttask.dev/task-name=asleep") == []


def test_a_cancelled_task_ends_as_such_and_stays_so(release: Namespace) -> None:
    release.apply(task("called-off", "sleep 600"))
    running(release, "called-off")

    release.kubectl("patch", "at", "called-off", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    status = release.ended("called-off")

    assert (status["phase"], status["reason"]) == ("Cancelled", "CancelledByUser")
    release.kubectl("wait", "--for=condition=Failed", "at/called-off", "--timeout=10s")
    with pytest.raises(AssertionError, match="a cancelled task stays cancelled"):
        release.kubectl("patch", "at", "called-off", "--type=merge", "-p", '{"spec":{"cancel":false}}')


async def test_a_finished_task_goes_with_its_pod_when_its_time_is_over(release: Namespace) -> None:
    """How it ended is read from a watch: who asks now and then may ask too late."""
    with administrator(release) as client:
        async with client as api, Recorder(api, release.name) as recorder:
            await asyncio.to_thread(release.apply, task("brief", "true", ttlSecondsAfterFinished=3))
            versions = recorder.versions
            await recorder.until(lambda: any((one.kind, one.name) == ("DELETED", "brief") for one in versions), 240)
            await recorder.until(lambda: recorder.ever("brief") and not recorder.pods("brief"), 90)
    last = next(one for one in versions if (one.kind, one.name) == ("DELETED", "brief"))
    assert last.object["status"]["phase"] == "Succeeded", story(recorder, "brief")


def test_a_task_of_another_controller_is_left_alone(release: Namespace) -> None:
    release.apply(task("theirs", "true", managedBy="kueue.x-k8s.io/multikueue"), task("ours", "true"))

    release.ended("ours")
    assert "status" not in release.tasks()["theirs"]
