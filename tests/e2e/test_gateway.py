"""The gateway on a real cluster: large outputs, progress while a pod runs, and a next attempt that goes on."""

import json
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster


def step(name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", command]}, **fields}


def task(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": list(steps), **spec}}


def records(release: Namespace, name: str) -> list[dict[str, Any]]:
    found = json.loads(release.kubectl("get", "atr", "-o", "json"))["items"]
    return [each for each in found if each["task"] == name]


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
    shown = release.until("longer", lambda status: status.get("progress") == "1/2", seconds=90)
    assert [each["phase"] for each in shown["steps"]] == ["Succeeded", "Running"]
    assert len(records(release, "longer")) == 1
    release.kubectl("delete", "pod", shown["podName"], "--force", "--grace-period=0")
    status = release.ended("longer")
    assert (status["phase"], status["attempt"], status["infrastructureRestarts"]) == ("Succeeded", 2, 1), status
    assert status["output"].split() == ["attempt", "1", "thought"]
    assert "steps taken over: 1" in release.kubectl("logs", status["podName"])
