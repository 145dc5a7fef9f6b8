"""Every example is applied as it stands, with real models in the pods, and ends as its comment says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Namespace

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = ("rag", "code-agent", "instructions", "gpu-first", "broken")


@pytest.fixture(scope="module")
def ended(release: Namespace) -> Iterator[dict[str, dict[str, Any]]]:
    """All examples, applied in one go and run to their ends."""
    documents = {"README.md": (ROOT / "README.md").read_text(), "SECURITY.md": (ROOT / "SECURITY.md").read_text()}
    release.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs"}, "data": documents})
    release.apply((EXAMPLES / "models.yaml").read_text(), *((EXAMPLES / f"{name}.yaml").read_text() for name in NAMES))
    yield release.all_ended(NAMES, seconds=420)
    release.kubectl("delete", "agenttasks", *NAMES, "--wait=false")


def test_no_example_is_forgotten() -> None:
    found = {
        each["metadata"]["name"]
        for file in EXAMPLES.glob("*.yaml")
        for each in yaml.safe_load_all(file.read_text())
        if each["kind"] == "AgentTask"
    }
    assert found == set(NAMES)


@pytest.mark.parametrize("name", ["rag", "code-agent", "instructions", "gpu-first"])
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


def test_a_task_that_wants_a_gpu_first_says_why_it_ran_on_a_cpu(ended: dict[str, dict[str, Any]]) -> None:
    device = ended["gpu-first"]["device"]
    assert device["class"] == "cpu"
    assert next(each["verdict"] for each in device["considered"] if each["class"] == "gpu")


def test_the_broken_example_names_its_mistake_and_never_gets_a_pod(ended: dict[str, dict[str, Any]], release: Namespace) -> None:
    assert (ended["broken"]["phase"], ended["broken"]["reason"]) == ("Failed", "InvalidTemplate")
    assert "did you mean 'question'" in ended["broken"]["message"]
    assert release.pods("agenttask.dev/task-name=broken") == []
