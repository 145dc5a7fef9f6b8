"""What a user does with a task that works: apply, wait, read; and what must be true of the pod behind it."""

import json
import subprocess
import time
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster


def task(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec}


FLOW = {
    "params": {"who": "world"},
    "inputs": [{"name": "notes", "configMap": {"name": "notes"}}],
    "steps": [
        {"name": "docs", "read": {"paths": ["/inputs/notes/*.md"]}},
        {"name": "ask", "needs": [], "chat": {"model": "remote", "prompt": "hello {{ params.who }}"}},
        {
            "name": "note",
            "needs": ["docs", "ask"],
            "write": {"path": "out/note.txt", "content": "{{ steps.docs.text }}|{{ steps.ask.text }}"},
        },
        {
            "name": "agent",
            "exec": {
                "command": ["sh", "-c", "cat out/note.txt; echo ok > done.json"],
                "waitFile": {"path": "done.json"},
                "env": [{"name": "GREETING", "value": "{{ params.who }}"}],
            },
        },
    ],
}


@pytest.fixture(scope="module")
def flow(release: Namespace) -> dict[str, Any]:
    """One task with every plain step kind, ended."""
    release.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"a.md": "first", "b.md": "second"}},
        task("flow", FLOW),
    )
    release.kubectl("wait", "--for=condition=Complete", "at/flow", "--timeout=120s")
    return release.tasks()["flow"]


def test_a_task_runs_to_its_result(flow: dict[str, Any]) -> None:
    status = flow["status"]
    assert status["output"] == "first\nsecond|echo: hello world (key of 9 characters)"
    assert (status["phase"], status["reason"], status["progress"]) == ("Succeeded", "Succeeded", "4/4")


def test_its_status_tells_the_whole_story(flow: dict[str, Any]) -> None:
    status = flow["status"]
    assert status["usage"] == {"calls": 1, "inputTokens": 7, "outputTokens": 5, "totalTokens": 12}
    assert [(step["name"], step["phase"]) for step in status["steps"]] == [(step["name"], "Succeeded") for step in FLOW["steps"]]
    assert status["observedGeneration"] == flow["metadata"]["generation"] == 1
    assert status["models"] == "remote"
    assert status["startTime"][:19] <= status["steps"][0]["startedAt"][:19] <= status["completionTime"][:19]
    assert status["nodeName"]
    assert status["podName"].startswith("flow-")
    assert status["device"]["class"] == "cpu"


def test_kubectl_shows_it_by_its_short_name(release: Namespace, flow: dict[str, Any]) -> None:
    header, row = release.kubectl("get", "at", "flow").splitlines()
    assert header.split() == ["NAME", "PHASE", "REASON", "PROGRESS", "DEVICE", "ATTEMPT", "AGE"]
    assert row.split()[:6] == ["flow", "Succeeded", "Succeeded", "4/4", "cpu", "1"]


def test_finished_tasks_can_be_selected_by_phase(release: Namespace, flow: dict[str, Any]) -> None:
    assert "flow" in release.kubectl("get", "at", "--field-selector", "status.phase=Succeeded", "-o", "name")


def test_the_log_tells_each_step_and_no_content(release: Namespace, flow: dict[str, Any]) -> None:
    log = release.kubectl("logs", flow["status"]["podName"])
    assert [step["name"] for step in FLOW["steps"] if step["name"] not in log] == []
    # What a command prints is logged; prompts, answers and contents of files are not.
    assert [line for line in log.splitlines() if "hello world" in line and " step agent: " not in line] == []


def test_the_pod_is_restricted_and_owned(release: Namespace, flow: dict[str, Any]) -> None:
    (pod,) = release.pods("agenttask.dev/task-name=flow")
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["ownerReferences"][0]["uid"] == flow["metadata"]["uid"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "TOPSECRET" not in json.dumps(pod)


def test_a_step_cannot_read_the_runners_credentials(release: Namespace) -> None:
    peek = "cat /proc/1/environ 2>&1 | tr '\\0' '\\n'; env; cat /proc/$PPID/environ 2>&1 | tr '\\0' '\\n'; true"
    release.apply(
        task(
            "peek",
            {
                "steps": [
                    {"name": "ask", "chat": {"model": "remote", "prompt": "hi"}},
                    {"name": "peek", "exec": {"command": ["sh", "-c", peek]}},
                ]
            },
        )
    )
    status = release.ended("peek")
    assert status["phase"] == "Succeeded", status
    assert "Permission denied" in status["output"]
    assert "TOPSECRET" not in status["output"]
    assert "AGENTTASK_" not in status["output"].replace("AGENTTASK_STEP_RUN=", "")  # the mark of its processes


def test_a_task_that_wants_a_gpu_first_says_why_it_ran_on_cpu(release: Namespace) -> None:
    release.apply(
        task("wants-gpu-first", {"device": {"classes": ["gpu", "cpu"]}, "steps": [{"name": "a", "exec": {"command": ["echo", "ran"]}}]})
    )
    device = release.ended("wants-gpu-first")["device"]
    assert device["class"] == "cpu"
    assert [each["class"] for each in device["considered"]] == ["gpu", "cpu"] or device["considered"][0]["class"] == "gpu"
    assert "nvidia.com/gpu" in device["considered"][0]["verdict"] or "nvidia.com/gpu" in device["reason"]


def test_a_finished_task_stays_finished(release: Namespace, flow: dict[str, Any]) -> None:
    body = json.dumps({"status": {"phase": "Failed"}})
    with pytest.raises(AssertionError, match=r"final|terminal|immutable|never"):
        release.kubectl("patch", "at", "flow", "--subresource=status", "--type=merge", "-p", body)


def test_the_spec_cannot_be_changed(release: Namespace, flow: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="activeDeadlineSeconds cannot be changed"):
        release.kubectl("patch", "at", "flow", "--type=merge", "-p", json.dumps({"spec": {"activeDeadlineSeconds": 7}}))


def test_deleting_the_task_takes_its_pod_along(release: Namespace) -> None:
    release.apply(task("deleted", {"steps": [{"name": "a", "exec": {"command": ["true"]}}]}))
    release.ended("deleted")
    release.kubectl("delete", "at", "deleted")
    end = time.monotonic() + 180
    while release.pods("agenttask.dev/task-name=deleted"):
        assert time.monotonic() < end, "the pod is still there after 180 s"
        time.sleep(1)


def test_helm_test_runs_a_task_on_the_installation(release: Namespace) -> None:
    done = subprocess.run(
        ["helm", "test", "agenttask", "-n", release.name, "--timeout=3m"],
        env=release.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Succeeded" in done.stdout


def test_explain_describes_every_field(release: Namespace) -> None:
    for kind in ("agenttask", "agentmodel"):
        assert "<no description>" not in release.kubectl("explain", f"{kind}.spec", "--recursive")
        assert "DESCRIPTION:" in release.kubectl("explain", f"{kind}.spec")
