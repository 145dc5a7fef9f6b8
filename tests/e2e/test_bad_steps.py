"""Bad input to the fields of steps and models that only a run can judge, and to those that nobody should have to run for."""

import re
import textwrap
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import model
from tests.e2e.test_bad_input import Case
from tests.e2e.test_tasks import task

pytestmark = pytest.mark.cluster

CASES = (
    Case(
        name="for-each-over-a-text",
        spec="""
        steps:
          - {name: list, exec: {command: [echo, "a b c"]}}
          - {name: each, forEach: "{{ steps.list.text }}", exec: {command: [echo, "{{ item }}"]}}
        """,
        reason="StepFailed",
        message=r"'each'.*forEach.*list",
    ),
    Case(
        name="when-is-a-text",
        spec="""
        params: {mode: full}
        steps: [{name: a, when: "{{ params.mode }}", exec: {command: ["true"]}}]
        """,
        reason="StepFailed",
        message=r"'a'.*when.*'full'",
    ),
    Case(
        name="when-is-no-expression",
        spec="""
        steps: [{name: a, when: "yes {{ params.mode }}", exec: {command: ["true"]}}]
        """,
        reason="InvalidTemplate",
        message=r"spec\.steps\[0\]\.when",
        accepted=False,
    ),
    Case(
        name="item-without-for-each",
        spec="""
        steps: [{name: a, exec: {command: [echo, "{{ item }}"]}}]
        """,
        reason="InvalidTemplate",
        message=r"spec\.steps\[0\]\.exec\.command\[1\].*item",
        accepted=False,
    ),
    Case(
        name="time-is-no-number",
        spec="""
        params: {time: soon}
        steps: [{name: a, timeoutSeconds: "{{ params.time }}", exec: {command: ["true"]}}]
        """,
        reason="StepFailed",
        message=r"timeoutSeconds.*'soon'",
    ),
    Case(
        name="schema-that-is-none",
        spec="""
        steps: [{name: a, chat: {model: plain, prompt: hi, responseSchema: {type: objekt}}}]
        """,
        reason="InvalidTask",
        message=r"responseSchema.*objekt",
        accepted=False,
    ),
    Case(
        name="wait-file-of-the-wrong-shape",
        spec="""
        steps:
          - name: a
            exec:
              command: [sh, -c, "echo '{}' > done"]
              waitFile: {path: done, timeoutSeconds: 2, jsonSchema: {type: object, required: [changed]}}
        """,
        reason="StepFailed",
        message=r"'done'.*not right within 2 s.*'changed' is a required property",
    ),
    Case(
        name="lock-outside-of-the-workspace",
        spec="""
        steps: [{name: a, exec: {command: ["true"], locks: [../etc]}}]
        """,
        reason="StepFailed",
        message=r"\.\./etc",
    ),
    Case(
        name="kept-file-too-large",
        spec="""
        steps: [{name: a, keepFiles: [big], exec: {command: [sh, -c, "head -c 70000 /dev/zero > big"]}}]
        """,
        reason="OutputTooLarge",
        message=r"big.*65536",
    ),
    Case(
        name="kind-that-no-step-has",
        spec="""
        execution: {maxConcurrentByKind: {exce: 1}}
        steps: [{name: a, exec: {command: ["true"]}}]
        """,
        reason="InvalidTask",
        message=r"maxConcurrentByKind.*'exce'",
        accepted=False,
    ),
    Case(
        name="setting-that-is-none",
        spec="""
        pod: {env: [{name: MAX_WORKERS, value: many}]}
        steps: [{name: a, exec: {command: ["true"]}}]
        """,
        reason="InvalidTask",
        message=r"MAX_WORKERS.*'many'.*1.*256",
    ),
    Case(
        name="fetch-of-a-strange-host",
        spec="""
        steps: [{name: a, fetch: {url: "https://strange.example.com/x"}}]
        """,
        reason="InvalidTask",
        message=r"strange\.example\.com.*allow",
    ),
    Case(
        name="fetch-of-a-rendered-strange-host",
        spec="""
        params: {host: strange.example.com}
        steps: [{name: a, fetch: {url: "https://{{ params.host }}/x"}}]
        """,
        reason="InvalidTask",
        message=r"strange\.example\.com.*allow",
    ),
    Case(
        name="fetch-with-a-secret-not-allowed",
        spec="""
        steps: [{name: a, fetch: {url: "http://llm:8080/facts", headers: [{name: X, secretKeyRef: {name: model-key, key: key}}]}}]
        """,
        reason="InvalidTask",
        message=r"spec\.steps\[0\]\.fetch\.headers.*model-key",
        accepted=False,
    ),
    Case(
        name="fetch-that-is-not-there",
        spec="""
        steps: [{name: a, fetch: {url: "http://llm:8080/nowhere"}}]
        """,
        reason="StepFailed",
        message=r"404.*there is nothing",
    ),
    Case(
        name="clone-from-a-strange-host",
        spec="""
        steps: [{name: a, git: {clone: {url: "https://git.example.com/a.git", path: app}}}]
        """,
        reason="InvalidTask",
        message=r"git\.example\.com.*allow",
    ),
    Case(
        name="clone-of-an-option",
        spec="""
        params: {url: "--upload-pack=touch /tmp/x"}
        steps: [{name: a, git: {clone: {url: "{{ params.url }}", path: app}}}]
        """,
        reason="StepFailed",
        message=r"upload-pack",
    ),
    Case(
        name="commit-where-no-repository-is",
        spec="""
        steps:
          - {name: a, write: {path: app/x, content: x}}
          - {name: b, git: {commit: {path: app, message: m}}}
        """,
        reason="StepFailed",
        message=r"'app'.*repository",
    ),
    Case(
        name="all-models-fail",
        spec="""
        steps: [{name: a, chat: {models: [answers-401, answers-404], prompt: hi}}]
        """,
        reason="ModelRejected",
        message=r"answers-401.*401",
    ),
    Case(
        name="all-models-are-required",
        spec="""
        steps: [{name: a, chat: {models: [plain, answers-401], requireAll: true, prompt: hi}}]
        """,
        reason="ModelRejected",
        message=r"answers-401.*401",
    ),
    Case(
        name="fallback-never-applied",
        spec="""
        pendingDeadlineSeconds: 5
        steps: [{name: a, chat: {model: falls-into-nothing, prompt: hi}}]
        """,
        reason="PendingDeadlineExceeded",
        message=r"UnknownModel.*'nothing'",
    ),
    Case(
        name="parameter-that-is-none",
        spec="""
        steps: [{name: a, chat: {model: misspelt, prompt: hi}}]
        """,
        reason="InvalidTask",
        message=r"temprature.*temperature",
    ),
    Case(
        name="hub-not-allowed",
        spec="""
        steps: [{name: a, chat: {model: from-hub, prompt: hi}}]
        """,
        reason="InvalidTask",
        message=r"hub.*from-hub|from-hub.*hub",
        accepted=False,
    ),
    Case(
        name="weights-that-are-not-there",
        spec="""
        steps: [{name: a, chat: {model: weightless, prompt: hi}}]
        """,
        reason="ModelUnavailable",
        message=r"/models/nowhere",
    ),
    Case(
        name="cache-larger-than-memory",
        spec="""
        pod: {resources: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}}
        steps: [{name: a, chat: {model: greedy, prompt: hi}}]
        """,
        reason="OutOfMemory",
        message=r"memory",
    ),
)

MODELS = (
    model("falls-into-nothing", {"client": "scripted", "model": "echo", "fallback": ["nothing"]}),
    model("misspelt", {"client": "openai", "endpoint": "http://llm:8080/ok/v1", "model": "x", "parameters": {"temprature": "1"}}),
    model("from-hub", {"client": "local", "model": "x", "local": {"hub": {"repository": "someone/something"}}}),
    model("weightless", {"client": "local", "model": "x", "local": {"path": "/models/nowhere"}}),
    model("greedy", {"client": "local", "model": "x", "local": {"path": "/models/smollm2", "memory": "64Gi"}}),
)


@pytest.fixture(scope="module")
def statuses(release: Namespace) -> dict[str, dict[str, Any]]:
    """Every case, applied at once, and its status when all have ended."""
    release.apply(*MODELS, *(task(case.name, yaml.safe_load(textwrap.dedent(case.spec))) for case in CASES))
    return release.all_ended([case.name for case in CASES], seconds=480)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_bad_input_to_steps_and_models_fails_with_its_reason(case: Case, statuses: dict[str, dict[str, Any]]) -> None:
    status = statuses[case.name]
    accepted = next(each["status"] for each in status["conditions"] if each["type"] == "Accepted")
    assert (status["phase"], status["reason"]) == ("Failed", case.reason), status
    assert re.search(case.message, status["message"], re.DOTALL), status["message"]
    assert (accepted == "True") == case.accepted


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"softDeadlineSeconds": 60, "activeDeadlineSeconds": 60}, "softDeadlineSeconds", id="soft-deadline"),
        pytest.param({"steps": [{"name": "a", "parallelism": 2, "exec": {"command": ["true"]}}]}, "parallelism", id="parallelism"),
        pytest.param({"steps": [{"name": "a", "retry": {"limit": 0}, "exec": {"command": ["true"]}}]}, "retry.limit", id="retry"),
        pytest.param(
            {"steps": [{"name": "a", "chat": {"model": "plain", "prompt": "x", "temperature": "2.5"}}]}, "temperature", id="temperature"
        ),
        pytest.param({"steps": [{"name": "a", "chat": {"model": "plain", "models": ["plain"], "prompt": "x"}}]}, "models", id="two-models"),
        pytest.param({"steps": [{"name": "a", "chat": {"model": "plain"}}]}, "prompt", id="no-prompt"),
        pytest.param({"steps": [{"name": "a", "git": {}}]}, "git", id="no-git-operation"),
    ],
)
def test_the_api_server_refuses_it_and_names_the_field(release: Namespace, change: dict[str, Any], field: str) -> None:
    spec = {"steps": [{"name": "a", "exec": {"command": ["true"]}}], **change}
    with pytest.raises(AssertionError, match=re.escape(field)):
        release.apply(task("refused", spec))
