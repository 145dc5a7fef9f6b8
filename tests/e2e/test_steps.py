"""How steps run in real pods: items and tries, skips and caught errors, files and locks, git, fetch, threads, and early ends."""

import json
import time
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.test_tasks import task

pytestmark = pytest.mark.cluster

PLAN = [{"do": "fine", "timeout": 60}, {"do": "flaky", "timeout": 60}, {"do": "slow", "timeout": 1}]
AGENT = """
case "$1" in
  flaky) [ -e tried ] || { touch tried; echo "the line was busy" >&2; exit 3; } ;;
  slow) sleep 600 ;;
esac
echo "$1: done${2:+ ($2)}"
"""
ORIGIN = "git init -q -b main origin; cd origin; echo one > a; git add a; git -c user.name=o -c user.email=o@x commit -qm o"
SOFT_SECONDS = 18
"""The first step begins before it, on a busy machine too, and ends after it whenever it began."""
ALONE = "mkdir inside || exit 9; sleep 0.3; rmdir inside"


def exec_(name: str, script: str, *arguments: str, **more: Any) -> dict[str, Any]:
    """A step that runs a shell script."""
    fields = {key: more.pop(key) for key in ("waitFile", "locks", "output", "workdir") if key in more}
    return {"name": name, "exec": {"command": ["sh", "-c", script, "sh", *arguments], **fields}, **more}


TASKS: dict[str, dict[str, Any]] = {
    "items": {
        "steps": [
            exec_(
                "plan",
                f"(printf '['; sleep 1; echo '{json.dumps(PLAN)[1:]}') > plan.json &",
                waitFile={"path": "plan.json", "jsonSchema": {"type": "array", "items": {"required": ["do", "timeout"]}}},
            ),
            exec_(
                "agent",
                AGENT,
                "{{ item.do }}",
                "{{ lastError }}",
                forEach="{{ steps.plan.json }}",
                timeoutSeconds="{{ item.timeout }}",
                retry={"limit": 1, "backoff": {"initialSeconds": 1}},
                continueOnError=True,
            ),
        ],
        "output": "{{ steps.agent.text }}\n{{ steps.agent.error.message }}\n{{ steps.agent.results[2].error.reason }}",
    },
    "choices": {
        "params": {"mode": "quick"},
        "steps": [
            exec_("tries", "echo broken >&2; exit 3", continueOnError=True),
            exec_("full", "exit 1", when="{{ params.mode == 'full' }}"),
            exec_("recovers", "echo recovered", when="{{ steps.tries.error != none }}"),
        ],
        "output": "{{ steps.tries.error.message }}|{{ steps.full.text }}|{{ steps.recovers.text | trim }}",
    },
    "in-turn": {
        "steps": [
            exec_("left", ALONE, needs=[], locks=["shared"]),
            exec_("right", ALONE, needs=[], locks=["shared/below"]),
            exec_("third", ALONE, needs=[], locks=["shared"]),
            exec_("loud", "seq 1 300000", needs=[], output="Tail"),
        ],
        "output": "{{ steps.loud.text | truncate(60) }}",
    },
    "commits": {
        "steps": [
            exec_("origin", ORIGIN),
            {"name": "clone", "git": {"clone": {"url": "/workspace/origin", "path": "app"}}},
            exec_("edit", "echo two > a; echo new > b", workdir="app"),
            {"name": "patch", "git": {"diff": {"path": "app"}}},
            {"name": "commit", "git": {"commit": {"path": "app", "message": "By {{ task.name }}", "author": "Agent <agent@example.com>"}}},
            exec_("log", "git log -1 --format='%an: %s'; git status --short", workdir="app"),
        ],
        "output": "{{ steps.patch.json | tojson }}\n{{ steps.log.text }}",
    },
    "fetches": {
        "steps": [
            {"name": "facts", "fetch": {"url": "http://llm:8080/facts"}},
            {"name": "metadata", "needs": [], "continueOnError": True, "fetch": {"url": "http://169.254.169.254/latest/"}},
            {"name": "sent-there", "needs": [], "continueOnError": True, "fetch": {"url": "http://llm:8080/to-metadata"}},
            {"name": "sent-away", "needs": [], "continueOnError": True, "fetch": {"url": "http://llm:8080/to-elsewhere"}},
        ],
        "output": "{{ steps.facts.json.facts | join(' ') }}\n{{ steps.metadata.error.message }}\n{{ steps['sent-there'].error.message }}\n"
        "{{ steps['sent-away'].error.message }}",
    },
    **{
        f"threads-{strategy}": {
            "execution": {"threading": strategy, "maxProcesses": 1},
            "steps": [
                exec_("text", "seq 1 100000 > numbers.md"),
                {"name": "index", "embed": {"model": "plain", "paths": ["numbers.md"], "passageCharacters": 8192}},
                {"name": "find", "retrieve": {"from": "index", "query": "777", "topK": 1}},
            ],
            "output": "{{ steps.find.json[0].source }}",
        }
        for strategy in ("process", "hybrid")
    },
    "no-time": {
        "softDeadlineSeconds": SOFT_SECONDS,
        "steps": [exec_("long", f"sleep {SOFT_SECONDS + 3}; echo done"), exec_("never", "echo too late")],
    },
    "stopped": {
        "retry": {"maxInfrastructureRestarts": 0},
        "steps": [
            {"name": "note", "write": {"path": "note", "content": "kept"}},
            exec_("stubborn", "trap '' TERM; echo ready; while :; do sleep 1; done"),
        ],
    },
}


@pytest.fixture(scope="module")
def ended(release: Namespace) -> dict[str, dict[str, Any]]:
    """All tasks, applied at once, and their statuses when they have ended. One is stopped half-way."""
    release.apply(*(task(name, spec) for name, spec in TASKS.items()))
    pod = release.until("stopped", lambda status: status.get("phase") == "Running", seconds=120)["podName"]
    end = time.monotonic() + 120
    while "step stubborn: ready" not in release.kubectl("logs", pod):
        assert time.monotonic() < end, release.explain("stopped")
        time.sleep(0.5)
    # A finalizer keeps the pod, so that its end can be seen.
    release.kubectl("patch", "pod", pod, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": ["e2e.agenttask.dev/look"]}}))
    release.kubectl("delete", "pod", pod, "--wait=false")
    return release.all_ended(TASKS, seconds=480)


def steps_of(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Step statuses by name."""
    return {step["name"]: step for step in status["steps"]}


def test_items_have_their_own_time_and_tries_and_one_that_fails_loses_no_other(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["items"]
    assert status["phase"] == "Succeeded", status
    *texts, error, reason = status["output"].splitlines()
    assert [text for text in texts if text] == ["fine: done", "flaky: done (exited 3: the line was busy)"]
    assert error == "1 of 3 items failed; item 3: timed out after 1 s (timeoutSeconds)"
    assert reason == "StepFailed"


def test_status_counts_items_and_tries(ended: dict[str, dict[str, Any]]) -> None:
    agent = steps_of(ended["items"])["agent"]
    assert (agent["items"], agent["tries"]) == ("3/3", 5)


def test_a_wait_file_that_is_half_written_is_waited_for(ended: dict[str, dict[str, Any]]) -> None:
    assert steps_of(ended["items"])["plan"]["phase"] == "Succeeded"


def test_a_caught_error_is_read_by_later_steps_and_when_skips(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["choices"]
    assert (status["phase"], status["output"]) == ("Succeeded", "exited 3: broken||recovered")
    assert {name: step["phase"] for name, step in steps_of(status).items()} == {
        "tries": "Failed",
        "full": "Skipped",
        "recovers": "Succeeded",
    }


def test_steps_with_a_lock_in_common_take_turns_and_a_loud_one_keeps_its_end(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["in-turn"]
    assert status["phase"] == "Succeeded", status
    assert "bytes" in status["output"]


def test_a_repository_is_cloned_edited_and_committed(ended: dict[str, dict[str, Any]]) -> None:
    files, log = ended["commits"]["output"].split("\n", 1)
    assert json.loads(files) == [{"change": "Modified", "path": "a"}, {"change": "Added", "path": "b"}]
    assert log.strip() == "Agent: By commits"


def test_an_allowed_host_answers_and_no_way_leads_to_metadata_or_elsewhere(ended: dict[str, dict[str, Any]]) -> None:
    facts, metadata, sent_there, sent_away = ended["fetches"]["output"].split("\n")
    assert facts == "one two"
    assert "169.254.169.254" in metadata
    assert "link-local" in metadata
    assert "169.254.169.254" in sent_there
    assert "elsewhere.invalid" in sent_away


@pytest.mark.parametrize("strategy", ["process", "hybrid"])
def test_python_code_computes_in_a_process_of_its_own(ended: dict[str, dict[str, Any]], release: Namespace, strategy: str) -> None:
    status = ended[f"threads-{strategy}"]
    assert (status["phase"], status["output"]) == ("Succeeded", "numbers.md")
    assert f"threads: {strategy}: at most 6 threads, 1 processes" in release.kubectl("logs", status["podName"])


def test_after_the_soft_deadline_what_runs_may_end_and_nothing_starts(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["no-time"]
    assert (status["phase"], status["reason"], status["progress"]) == ("Failed", "SoftDeadlineReached", "1/2")
    assert [(name, step["phase"]) for name, step in steps_of(status).items()] == [("long", "Succeeded"), ("never", "Skipped")]


def test_a_stopped_pod_ends_within_its_grace_though_its_command_ignores_that(ended: dict[str, dict[str, Any]], release: Namespace) -> None:
    status = ended["stopped"]
    (pod,) = release.pods("agenttask.dev/task-name=stopped")
    release.kubectl("patch", "pod", pod["metadata"]["name"], "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    # The time of deletion has the grace in it.
    left = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]) - datetime.fromisoformat(state["finishedAt"])
    assert (status["phase"], status["reason"]) == ("Failed", "Lost"), status
    assert state["exitCode"] == 143, state
    assert 0 <= left.total_seconds() <= 40
    assert steps_of(status)["note"]["phase"] == "Succeeded"
