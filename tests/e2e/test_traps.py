"""What went wrong in systems like this one, on a real cluster (docs/traps.md): time that runs out, pods that are gone, namesakes."""

import time
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster
RETRY = {"limit": 1, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
SOFT_SECONDS = 20
"""Step three begins before it, on a busy machine too, and ends after it whenever it began."""


def step(name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "exec": {"command": ["sh", "-c", command]}, **fields}


def task(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": list(steps), **spec}}


def test_an_attempt_that_ran_out_of_time_in_step_3_of_5_is_followed_by_one_that_goes_on_behind_it(release: Namespace) -> None:
    """What runs at the soft deadline may end, nothing starts after it; the next attempt has the file of step 1 and does no step again."""
    kept = {"keepFiles": ["one.txt"]}
    steps = (
        step("one", "date +%s%N > one.txt; cat one.txt", **kept),
        step("two", "sleep 1; cat one.txt", **kept),
        step("three", f"sleep {SOFT_SECONDS + 2}; cat one.txt", **kept),
        step("four", "cat one.txt"),
        step("five", "echo {{ attempt }} $(cat one.txt)"),
    )
    release.apply(
        task(
            "out-of-time", *steps, softDeadlineSeconds=SOFT_SECONDS, activeDeadlineSeconds=300, retry=RETRY, output="{{ steps.five.text }}"
        )
    )

    # The second attempt may have ended too before anybody looks.
    between = release.until(
        "out-of-time", lambda status: status.get("endedAttempts", 0) >= 1 or status.get("phase") == "Failed", seconds=240
    )
    status = release.ended("out-of-time")

    assert between["phase"] != "Failed", between
    assert (status["phase"], status["attempt"], status["failures"]) == ("Succeeded", 2, 1), status
    shown = {one["name"]: one for one in status["steps"]}
    assert [one["phase"] for one in shown.values()] == ["Succeeded"] * 5
    again = [name for name in ("one", "two", "three") if shown[name]["startedAt"] != shown[name]["finishedAt"]]
    assert again == [], f"they ran again: {shown}"
    attempt, written = status["output"].split()
    assert attempt == "2"
    assert int(written) / 1e9 < time.time() - 10
    assert "taken over" in release.kubectl("logs", status["podName"])


def test_result_and_last_words_are_readable_when_the_pod_is_gone(release: Namespace) -> None:
    """Nothing that a user reads points at the pod: the result, each step's end and the last lines of the command are in the status."""
    release.apply(
        task("result", step("say", "printf 'the result'"), output="{{ steps.say.text }}"),
        task("words", step("say", "echo what went wrong >&2; exit 3")),
    )
    before = release.all_ended(["result", "words"], seconds=180)

    for name in before:
        release.kubectl("delete", "pod", before[name]["podName"], "--force", "--grace-period=0", "--ignore-not-found")
    release.kubectl("wait", "--for=delete", "pod", "-l", "agenttask.dev/task-name in (result,words)", "--timeout=60s")
    time.sleep(3)
    after = {name: one["status"] for name, one in release.tasks().items() if name in before}

    assert after == before
    assert (after["result"]["phase"], after["result"]["output"]) == ("Succeeded", "the result")
    assert (after["words"]["phase"], after["words"]["reason"]) == ("Failed", "StepFailed")
    assert "exited 3" in after["words"]["message"]
    assert "what went wrong" in after["words"]["message"]
    assert [one["phase"] for one in after["words"]["steps"]] == ["Failed"]


def test_a_task_made_anew_under_its_name_in_mid_run_gets_a_pod_of_its_own(release: Namespace) -> None:
    release.apply(task("twin", step("say", "sleep 600")))
    old = release.until("twin", lambda status: status.get("phase") == "Running", seconds=120)["podName"]

    release.kubectl("delete", "agenttask", "twin", "--wait=true")
    release.apply(task("twin", step("say", "printf 'of the new one'"), output="{{ steps.say.text }}"))
    status = release.ended("twin")

    assert (status["phase"], status["output"], status["attempt"]) == ("Succeeded", "of the new one", 1), status
    assert status["podName"] != old
    release.kubectl("wait", "--for=delete", f"pod/{old}", "--timeout=240s", timeout=300)
