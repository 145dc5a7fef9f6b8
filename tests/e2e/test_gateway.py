"""The gateway on a real cluster: large outputs, progress while a pod runs, and a next attempt that goes on."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, node_folder, step_phases
from tests.e2e.conftest import records, until_kept

pytestmark = pytest.mark.cluster
RECORDS = "count/agenttaskrecords.agenttask.dev"
WORKSPACES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "forced-kept": ({"keepFiles": ["*.txt"]}, {}, 1),
    "forced-anew": ({}, {}, 2),
    "forced-claimed": ({}, {"workspace": {"persistentVolumeClaim": {"claimName": "kept-work"}}}, 1),
}
"""By task: what step two says, what the task says, and which attempt's file step four reads."""


def step(name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", command]}, **fields}


def task(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": list(steps), **spec}}


def test_an_output_of_some_kilobytes_is_in_the_status(release: Namespace) -> None:
    release.apply(task("medium", step("say", "head -c 12000 /dev/zero | tr '\\0' x"), output="{{ steps.say.text }}"))
    status = release.ended("medium")
    assert (status["phase"], status["output"]) == ("Succeeded", "x" * 12000), status
    assert "outputRef" not in status


def test_a_larger_one_is_read_as_the_page_says(release: Namespace) -> None:
    release.apply(task("large", step("say", "head -c 500000 /dev/zero | tr '\\0' x"), output="{{ steps.say.text }}"))
    status = release.ended("large")
    assert (status["phase"], "output" in status) == ("Succeeded", False), status
    assert (status["outputRef"]["kind"], status["outputRef"]["key"]) == ("AgentTaskRecord", "output")
    assert release.kubectl("get", "atr", status["outputRef"]["name"], "-o", "jsonpath={.output}") == "x" * 500000
    release.kubectl("delete", "agenttask", "large")
    release.kubectl("wait", "--for=delete", f"atr/{status['outputRef']['name']}", "--timeout=60s")


def test_a_short_task_never_asks(release: Namespace) -> None:
    release.apply(task("short", step("say", "echo hello"), output="{{ steps.say.text }}"))
    assert release.ended("short")["phase"] == "Succeeded"
    assert records(release, "short") == []


def test_steps_show_while_the_pod_runs_and_a_pod_that_is_lost_costs_no_finished_step(release: Namespace) -> None:
    steps = (
        step("think", "sleep 4; echo thought > found; echo attempt {{ attempt }}", keepFiles=["found"]),
        step("wait", "test {{ attempt }} = 2 || sleep 600; cat found"),
    )
    release.apply(task("longer", *steps, output="{{ steps.think.text }}{{ steps.wait.text }}"))
    shown = release.until("longer", lambda status: step_phases(status) == ["Succeeded", "Running"], seconds=120)
    assert shown["progress"] == "1/2"
    until_kept(release, ["longer"], ["think"])
    assert len(records(release, "longer")) == 1
    release.kubectl("delete", "pod", shown["podName"], "--force", "--grace-period=0")
    status = release.ended("longer")
    assert (status["phase"], status["attempt"], status["infrastructureRestarts"]) == ("Succeeded", 2, 1), status
    assert status["output"].split() == ["attempt", "1", "thought"]
    assert "steps taken over: 1" in release.kubectl("logs", status["podName"])


@pytest.fixture
def claim(release: Namespace, images: Mapping[str, str]) -> Iterator[None]:
    """A folder of the node that pods may write to; a storage driver would heed the pod's fsGroup."""
    name = f"{release.name}-kept-work"
    mount = [{"name": "x", "mountPath": "/x"}]
    opens = {"name": "open", "image": images["runner"], "command": ["chmod", "0777", "/x"], "volumeMounts": mount}
    opener = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 0},
        "containers": [opens],
        "volumes": [{"name": "x", "hostPath": {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"}}],
    }
    release.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "opens-folder"}, "spec": opener})
    release.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/opens-folder", "--timeout=60s")
    release.apply(*node_folder(name, claim="kept-work", mode="ReadWriteOnce"))
    yield
    release.kubectl("delete", "agenttasks", *WORKSPACES, "--ignore-not-found")
    release.kubectl("delete", "persistentvolumeclaim", "kept-work", "--wait=false", "--ignore-not-found")
    release.kubectl("delete", "persistentvolume", name, "--wait=false", "--ignore-not-found")


def test_a_pod_is_deleted_by_force_and_step_four_reads_what_step_two_wrote(release: Namespace, claim: None) -> None:
    """On an emptyDir step two runs again, unless it keeps its files; on a claim they are still there. Step one never does."""
    for name, (second, spec, _) in WORKSPACES.items():
        steps = (
            {"name": "one", "chat": {"model": "plain", "prompt": "attempt {{ attempt }}"}},
            step("two", "echo made by attempt {{ attempt }} > made.txt", **second),
            step("three", "test {{ attempt }} = 2 || sleep 600"),
            step("four", "cat made.txt"),
        )
        release.apply(task(name, *steps, output="{{ steps.one.text }}; {{ steps.four.text }}", **spec))
    until_kept(release, WORKSPACES, ["one", "two"])
    pods = [release.until(name, lambda status: status.get("phase") == "Running", seconds=90)["podName"] for name in WORKSPACES]

    release.kubectl("delete", "pod", *pods, "--force", "--grace-period=0")
    found = release.all_ended(WORKSPACES, seconds=180)

    assert {name: (one["phase"], one["attempt"], one["infrastructureRestarts"]) for name, one in found.items()} == dict.fromkeys(
        WORKSPACES, ("Succeeded", 2, 1)
    ), found
    assert {name: one["output"] for name, one in found.items()} == {
        name: f"attempt 1; made by attempt {made}\n" for name, (*_, made) in WORKSPACES.items()
    }


def test_a_quota_of_records_costs_a_task_its_checkpoint_and_an_output_that_needs_one_waits_for_it(release: Namespace) -> None:
    """The quota's words are in the log of the task that goes on, and in the status of those that wait and that ran out of time."""
    none = {"hard": {RECORDS: "0"}}  # as many as there are were too many, should one of a deleted task go in between
    release.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "records"}, "spec": none})
    release.kubectl("wait", "--for=jsonpath={.status.hard}", "resourcequota/records", "--timeout=60s")
    try:
        large, text = step("say", "head -c 50000 /dev/zero | tr '\\0' x"), "{{ steps.say.text }}"
        release.apply(
            task("goes-on", step("one", "sleep 3"), step("two", "sleep 20; echo done"), output="{{ steps.two.text }}"),
            task("waits", large, output=text),
            task("too-late", large, output=text, activeDeadlineSeconds=30),
        )
        told = release.until("waits", lambda status: status.get("reason") == "RecordQuotaExceeded", seconds=90)
        found = release.all_ended(["goes-on", "too-late"], seconds=180)
        log = release.kubectl("logs", found["goes-on"]["podName"])
        release.kubectl("patch", "resourcequota", "records", "--type=merge", "-p", json.dumps({"spec": {"hard": raised(release)}}))
        found["waits"] = release.ended("waits")
    finally:
        release.kubectl("delete", "resourcequota", "records")

    assert (found["goes-on"]["phase"], found["goes-on"]["output"]) == ("Succeeded", "done\n"), found
    assert "exceeded quota: records" in log
    assert (told["phase"], told["message"].partition(": ")[2].partition(",")[0]) == ("Running", "exceeded quota: records"), told
    assert (found["waits"]["phase"], found["waits"]["attempt"]) == ("Succeeded", 1), found
    assert release.kubectl("get", "atr", found["waits"]["outputRef"]["name"], "-o", "jsonpath={.output}") == "x" * 50000
    assert (found["too-late"]["phase"], found["too-late"]["reason"], found["too-late"]["attempt"]) == ("Failed", "DeadlineExceeded", 1), (
        found
    )
    assert "exceeded quota: records" in found["too-late"]["message"], found
    assert records(release, "goes-on") == records(release, "too-late") == []


def raised(release: Namespace) -> dict[str, str]:
    """A quota with room for one more than there are."""
    return {RECORDS: str(len(json.loads(release.kubectl("get", "atr", "-o", "json"))["items"]) + 1)}
