"""Every kind of bad input ends, or waits, with a clear reason in `kubectl get at`. All are applied at once and looked at one by one."""

import re
import textwrap
from typing import Any

import msgspec
import pytest
import yaml

from tests.e2e.cluster import Namespace

pytestmark = pytest.mark.cluster


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A task's spec, and what a user must read."""

    name: str
    spec: str
    reason: str
    message: str
    accepted: bool = True


CASES = (
    # First, so that scheduler and kubelet come to these pods before the deadline, however long they take for the others.
    Case(
        name="unpullable-image",
        spec="""
        pendingDeadlineSeconds: 60
        pod: {image: "localhost:1/no/such:image"}
        steps: [{name: cli, exec: {command: ["true"]}}]
        """,
        reason="PendingDeadlineExceeded",
        message=r"ImagePull.*localhost:1/no/such:image",
    ),
    Case(
        name="unschedulable",
        spec="""
        pendingDeadlineSeconds: 60
        pod: {nodeSelector: {no-such-label: "true"}}
        steps: [{name: cli, exec: {command: ["true"]}}]
        """,
        reason="PendingDeadlineExceeded",
        message=r"Unschedulable.*node",
    ),
    Case(
        name="cycle-in-needs",
        spec="""
        steps:
          - {name: a, needs: [b], read: {paths: [x]}}
          - {name: b, needs: [a], read: {paths: [x]}}
        """,
        reason="InvalidTask",
        message=r"spec\.steps.*a → b → a|spec\.steps.*b → a → b",
        accepted=False,
    ),
    Case(
        name="unknown-step-in-template",
        spec="""
        steps:
          - {name: docs, read: {paths: [x]}}
          - {name: ask, chat: {model: plain, prompt: "{{ steps.dosc.text }}"}}
        """,
        reason="InvalidTemplate",
        message=r"spec\.steps\[1\]\.chat\.prompt.*'dosc'.*'docs'",
        accepted=False,
    ),
    Case(
        name="undefined-param",
        spec="""
        params: {file: a}
        steps: [{name: ask, chat: {model: plain, prompt: "{{ params.fiel }}"}}]
        """,
        reason="InvalidTemplate",
        message=r"spec\.steps\[0\]\.chat\.prompt.*'fiel'.*'file'",
        accepted=False,
    ),
    Case(
        name="template-that-computes",
        spec="""
        steps: [{name: ask, chat: {model: plain, prompt: "{{ 'a' * 300000000 }}"}}]
        """,
        reason="InvalidTemplate",
        message=r"spec\.steps\[0\]\.chat\.prompt",
        accepted=False,
    ),
    Case(
        name="unknown-strategy",
        spec="""
        device: {strategy: atuo}
        steps: [{name: ask, chat: {model: plain, prompt: hi}}]
        """,
        reason="UnknownPlugin",
        message=r"'atuo'.*auto.*did you mean 'auto'",
        accepted=False,
    ),
    Case(
        name="unknown-threading",
        spec="""
        execution: {threading: asink}
        steps: [{name: ask, chat: {model: plain, prompt: hi}}]
        """,
        reason="UnknownPlugin",
        message=r"'asink'.*async",
        accepted=False,
    ),
    Case(
        name="secret-not-allowed",
        spec="""
        steps:
          - name: cli
            exec: {command: ["true"], env: [{name: KEY, secretKeyRef: {name: anything, key: k}}]}
        """,
        reason="InvalidTask",
        message=r"spec\.steps\[0\]\.exec\.env.*anything",
        accepted=False,
    ),
    Case(
        name="credential-into-a-foreign-image",
        spec="""
        pod: {image: "example.invalid/evil:1"}
        steps: [{name: ask, chat: {model: remote, prompt: hi}}]
        """,
        reason="InvalidTask",
        message=r"spec\.pod\.image.*example\.invalid/evil:1",
        accepted=False,
    ),
    Case(
        name="model-never-applied",
        spec="""
        pendingDeadlineSeconds: 5
        steps: [{name: ask, chat: {model: nowhere, prompt: hi}}]
        """,
        reason="PendingDeadlineExceeded",
        message=r"5 s.*UnknownModel.*nowhere",
    ),
    Case(
        name="unknown-class",
        spec="""
        pendingDeadlineSeconds: 5
        device: {classes: [tpu]}
        steps: [{name: ask, chat: {model: plain, prompt: hi}}]
        """,
        reason="PendingDeadlineExceeded",
        message=r"UnknownClass.*tpu",
    ),
    Case(
        name="missing-input",
        spec="""
        pendingDeadlineSeconds: 5
        inputs: [{name: docs, configMap: {name: not-there}}]
        steps: [{name: docs, read: {paths: ["/inputs/docs/x"]}}]
        """,
        reason="PendingDeadlineExceeded",
        message=r"MissingInput.*not-there",
    ),
    Case(
        name="model-refuses-connection",
        spec="""
        steps: [{name: ask, chat: {model: refusing, prompt: hi}}]
        """,
        reason="ModelUnavailable",
        message=r"127\.0\.0\.1:9",
    ),
    Case(
        name="model-answers-401",
        spec="""
        steps: [{name: ask, chat: {model: answers-401, prompt: hi}}]
        """,
        reason="ModelRejected",
        message=r"401",
    ),
    Case(
        name="model-answers-404",
        spec="""
        steps: [{name: ask, chat: {model: answers-404, prompt: hi}}]
        """,
        reason="ModelRejected",
        message=r"404",
    ),
    Case(
        name="model-answers-429",
        spec="""
        steps: [{name: ask, chat: {model: answers-429, prompt: hi}}]
        """,
        reason="RateLimited",
        message=r"429",
    ),
    Case(
        name="model-answers-garbage",
        spec="""
        steps: [{name: ask, chat: {model: answers-garbage, prompt: hi}}]
        """,
        reason="ModelRejected",
        message=r"(?i)text/html|not JSON|malformed|no answer",
    ),
    Case(
        name="command-does-not-exist",
        spec="""
        steps: [{name: cli, exec: {command: [no-such-agent]}}]
        """,
        reason="StepFailed",
        message=r"'no-such-agent'",
    ),
    Case(
        name="command-exits-3",
        spec="""
        steps: [{name: cli, exec: {command: [sh, -c, "echo broken >&2; exit 3"]}}]
        """,
        reason="StepFailed",
        message=r"exited 3.*broken",
    ),
    Case(
        name="command-hangs",
        spec="""
        steps: [{name: cli, timeoutSeconds: 2, exec: {command: [sleep, "600"]}}]
        """,
        reason="StepFailed",
        message=r"timed out after 2 s",
    ),
    Case(
        name="command-prints-100-mb",
        spec="""
        steps: [{name: cli, exec: {command: [sh, -c, "head -c 100000000 /dev/zero | tr '\\\\0' x"]}}]
        """,
        reason="OutputTooLarge",
        message=r"1048576",
    ),
    Case(
        name="wait-file-never-comes",
        spec="""
        steps: [{name: cli, exec: {command: ["true"], waitFile: {path: done.json, timeoutSeconds: 1}}}]
        """,
        reason="StepFailed",
        message=r"done\.json.*1 s",
    ),
    Case(
        name="file-not-found",
        spec="""
        inputs: [{name: bin, configMap: {name: latin}}]
        steps: [{name: docs, read: {paths: ["/inputs/bin/missing.txt"]}}]
        """,
        reason="StepFailed",
        message=r"/inputs/bin/missing\.txt",
    ),
    Case(
        name="path-outside-dots",
        spec="""
        steps: [{name: docs, read: {paths: ["../etc/passwd"]}}]
        """,
        reason="StepFailed",
        message=r"\.\./etc/passwd.*/workspace",
    ),
    Case(
        name="path-outside-symlink",
        spec="""
        steps:
          - {name: link, exec: {command: [ln, -s, /etc, out]}}
          - {name: steal, write: {path: out/cron, content: x}}
        """,
        reason="StepFailed",
        message=r"out/cron",
    ),
    Case(
        name="input-is-not-utf-8",
        spec="""
        inputs: [{name: bin, configMap: {name: latin}}]
        steps: [{name: docs, read: {paths: ["/inputs/bin/latin.txt"]}}]
        """,
        reason="StepFailed",
        message=r"latin\.txt.*UTF-8",
    ),
    Case(
        name="output-over-900-kib",
        spec="""
        steps: [{name: cli, exec: {command: [sh, -c, "head -c 950000 /dev/zero | tr '\\\\0' x"]}}]
        """,
        reason="OutputTooLarge",
        message=r"950000",
    ),
    Case(
        name="out-of-memory",
        spec="""
        pod: {resources: {limits: {memory: 96Mi}, requests: {memory: 96Mi}}}
        steps: [{name: cli, exec: {command: [python3, -c, "x = bytearray(400_000_000)"]}}]
        """,
        reason="OutOfMemory",
        message=r"memory",
    ),
    Case(
        name="active-deadline",
        spec="""
        activeDeadlineSeconds: 3
        steps: [{name: cli, exec: {command: [sleep, "600"]}}]
        """,
        reason="DeadlineExceeded",
        message=r"3 s",
    ),
    Case(
        name="malformed-image",
        spec="""
        pod: {image: "No Such::Image"}
        steps: [{name: cli, exec: {command: ["true"]}}]
        """,
        reason="ImageError",
        message=r"No Such::Image",
    ),
)


@pytest.fixture(scope="module")
def statuses(release: Namespace) -> dict[str, dict[str, Any]]:
    """Every case, applied at once, and its status when all have ended."""
    release.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "latin"}, "binaryData": {"latin.txt": "6enp"}},
        *(
            {
                "apiVersion": "agenttask.dev/v1alpha1",
                "kind": "AgentTask",
                "metadata": {"name": case.name},
                "spec": yaml.safe_load(textwrap.dedent(case.spec)),
            }
            for case in CASES
        ),
    )
    return release.all_ended([case.name for case in CASES], seconds=480)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_bad_input_fails_with_its_reason(case: Case, statuses: dict[str, dict[str, Any]]) -> None:
    status = statuses[case.name]
    conditions = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert (status["phase"], status["reason"]) == ("Failed", case.reason), status
    assert conditions["Failed"] == ("True", case.reason)
    assert (conditions["Accepted"][0] == "True") == case.accepted
    assert re.search(case.message, status["message"], re.DOTALL), status["message"]


def test_a_refused_task_gets_no_pod(release: Namespace, statuses: dict[str, dict[str, Any]]) -> None:
    refused = {case.name for case in CASES if not case.accepted}
    with_pods = {pod["metadata"]["labels"]["agenttask.dev/task-name"] for pod in release.pods("agenttask.dev/task-uid")}
    assert statuses.keys() >= refused
    assert with_pods & refused == set()


@pytest.mark.parametrize(
    ("name", "spec", "reason", "message"),
    [
        pytest.param(
            "waits-for-model", {"steps": [{"name": "a", "chat": {"model": "late", "prompt": "hi"}}]}, "UnknownModel", "late", id="model"
        ),
        pytest.param(
            "waits-for-node",
            {"pod": {"nodeSelector": {"no-such-label": "true"}}, "steps": [{"name": "a", "exec": {"command": ["true"]}}]},
            "Unschedulable",
            "node",
            id="unschedulable",
        ),
        pytest.param(
            "waits-for-image",
            {"pod": {"image": "localhost:1/no/such:image"}, "steps": [{"name": "a", "exec": {"command": ["true"]}}]},
            "ImagePull",
            "localhost:1/no/such:image",
            id="image",
        ),
    ],
)
def test_a_waiting_task_says_within_seconds_what_it_waits_for(
    release: Namespace, name: str, spec: dict[str, Any], reason: str, message: str
) -> None:
    release.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec})
    status = release.until(name, lambda seen: seen.get("reason") == reason, seconds=60)
    assert message in status["message"]
    assert status["phase"] in ("Queued", "Starting")
    release.kubectl("delete", "at", name)


def test_a_task_whose_model_comes_late_goes_on(release: Namespace) -> None:
    task = {"steps": [{"name": "a", "chat": {"model": "comes-late", "prompt": "hi"}}]}
    release.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "patient"}, "spec": task})
    release.until("patient", lambda seen: seen.get("reason") == "UnknownModel", seconds=60)
    model = {"client": "scripted", "model": "echo", "parameters": {"reply": "at last"}}
    release.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": "comes-late"}, "spec": model})
    assert release.ended("patient")["output"] == "at last"


def test_a_pod_deleted_by_hand_is_a_lost_task(release: Namespace) -> None:
    task = {"steps": [{"name": "a", "exec": {"command": ["sleep", "600"]}}], "retry": {"maxInfrastructureRestarts": 0}}
    release.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "robbed"}, "spec": task})
    release.until("robbed", lambda seen: seen.get("phase") == "Running", seconds=120)
    release.kubectl("delete", "pods", "-l", "agenttask.dev/task-name=robbed", "--wait=false")
    status = release.ended("robbed")
    assert (status["phase"], status["reason"]) == ("Failed", "Lost")
    assert "deleted" in status["message"]


def test_an_unknown_field_is_refused_by_the_api_server_and_named(release: Namespace) -> None:
    task = {"steps": [{"name": "a", "read": {"paths": ["x"]}}], "retries": 3}
    with pytest.raises(AssertionError, match=r'unknown field "spec\.retries"'):
        release.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "typo"}, "spec": task})


def test_two_kinds_in_one_step_are_refused_by_the_api_server(release: Namespace) -> None:
    task = {"steps": [{"name": "a", "read": {"paths": ["x"]}, "chat": {"model": "plain", "prompt": "hi"}}]}
    with pytest.raises(AssertionError, match="exactly one"):
        release.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "both"}, "spec": task})
