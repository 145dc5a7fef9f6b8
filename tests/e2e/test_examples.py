"""Every example is applied as it stands, with real models in the pods, and ends as its comment says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Namespace

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.timeout(1500)
FILES = ("rag", "code-agent", "instructions", "for-each", "many-models", "repository", "gpu-first", "broken", "queues")
NAMES = (*(name for name in FILES if name != "queues"), "tidy-up", "summary")


WITH_ISSUE = "repository-with-issue"


def with_issue() -> dict[str, Any]:
    """The example with an address to fetch."""
    made: dict[str, Any] = yaml.safe_load((EXAMPLES / "repository.yaml").read_text())
    made["metadata"]["name"] = WITH_ISSUE
    made["spec"]["params"]["issue"] = "http://llm:8080/facts"
    return made


@pytest.fixture(scope="module")
def ended(release: Namespace) -> Iterator[dict[str, dict[str, Any]]]:
    """All examples, applied in one go and run to their ends."""
    documents = {"README.md": (ROOT / "README.md").read_text(), "SECURITY.md": (ROOT / "SECURITY.md").read_text()}
    release.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs"}, "data": documents})
    release.apply((EXAMPLES / "models.yaml").read_text(), *((EXAMPLES / f"{name}.yaml").read_text() for name in FILES))
    release.apply(with_issue())
    yield release.all_ended([*NAMES, WITH_ISSUE], seconds=900)
    release.kubectl("delete", "agenttasks", *NAMES, WITH_ISSUE, "--wait=false")


def test_no_example_is_forgotten() -> None:
    found = {
        each["metadata"]["name"]
        for file in EXAMPLES.glob("*.yaml")
        for each in yaml.safe_load_all(file.read_text())
        if each["kind"] == "AgentTask"
    }
    assert found == set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "broken"])
def test_an_example_succeeds(ended: dict[str, dict[str, Any]], name: str) -> None:
    assert ended[name]["phase"] == "Succeeded", ended[name]


def test_the_answer_of_the_rag_example_has_its_sources(ended: dict[str, dict[str, Any]]) -> None:
    assert "source: /inputs/docs/" in ended["rag"]["output"]


def test_the_code_agent_changed_the_file_twice(ended: dict[str, dict[str, Any]]) -> None:
    changes = ended["code-agent"]["output"]
    assert "+> " in changes
    assert "+## Maintainers" in changes


def test_instructions_of_a_model_were_carried_out_one_by_one(ended: dict[str, dict[str, Any]]) -> None:
    assert ended["instructions"]["output"].endswith("---\nWelcome!\nInstall it.\nThen run it.\n")
    assert "Failed: exited 1: the connection was lost" in ended["instructions"]["output"]


def test_each_item_of_a_list_has_its_own_end(ended: dict[str, dict[str, Any]]) -> None:
    fine = "fine, the limit is 5"
    end = "timed out after 1 s (timeoutSeconds)"
    assert ended["for-each"]["output"].splitlines() == [f"start: {fine}", f"middle: {fine}", f"end: {end}", "see complaint.txt"]


def test_many_models_answer_though_two_are_down_and_have_their_price(ended: dict[str, dict[str, Any]]) -> None:
    status = ended["many-models"]
    assert status["output"].splitlines() == ["a step that hangs holds up all that need it", "not asked: ModelUnavailable", "No."]
    assert re.fullmatch(r"0\.\d+ USD", status["usage"]["cost"])


def test_a_repository_is_changed_and_committed_and_an_issue_is_fetched_where_there_is_one(
    ended: dict[str, dict[str, Any]], release: Namespace
) -> None:
    assert "+Welcome!" in ended["repository"]["output"]
    assert {step["name"]: step["phase"] for step in ended["repository"]["steps"]}["issue"] == "Skipped"
    assert ended[WITH_ISSUE]["output"].endswith('for {"facts": ["one", "two"]}')


def test_a_task_that_wants_a_gpu_first_says_why_it_ran_on_a_cpu(ended: dict[str, dict[str, Any]]) -> None:
    device = ended["gpu-first"]["device"]
    assert device["class"] == "cpu"
    assert next(each["verdict"] for each in device["considered"] if each["class"] == "gpu")


def test_the_broken_example_names_its_mistake_and_never_gets_a_pod(ended: dict[str, dict[str, Any]], release: Namespace) -> None:
    assert (ended["broken"]["phase"], ended["broken"]["reason"]) == ("Failed", "InvalidTemplate")
    assert "did you mean 'question'" in ended["broken"]["message"]
    assert release.pods("agenttask.dev/task-name=broken") == []
