"""Every example is valid; the one that is broken says what is wrong."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from agenttask.api.errors import InvalidTemplate
from agenttask.api.model import AgentModelSpec
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.validation import validate

EXAMPLES = Path(__file__).parents[3] / "examples"


def documents(kind: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(file.name, each) for file in sorted(EXAMPLES.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())]
    return [(f"{name}:{each['metadata']['name']}", each) for name, each in found if each["kind"] == kind]


def spec_of(task: dict[str, Any]) -> AgentTaskSpec:
    return msgspec.convert(task["spec"], AgentTaskSpec)


TASKS = documents("AgentTask")
WORKING = [pytest.param(task, id=name) for name, task in TASKS if not name.startswith("broken")]


@pytest.mark.parametrize("task", WORKING)
def test_an_example_is_a_task_that_can_run(task: dict[str, Any]) -> None:
    validate(spec_of(task), step_kinds=None)


def test_the_broken_example_names_the_param_that_was_meant() -> None:
    task = dict(TASKS)["broken.yaml:broken"]
    with pytest.raises(InvalidTemplate, match=r"'qestion'.*did you mean 'question'"):
        validate(spec_of(task), step_kinds=None)


def test_the_models_of_the_examples_are_valid_and_are_all_that_tasks_name() -> None:
    models = {model["metadata"]["name"] for _, model in documents("AgentModel")}
    for _, model in documents("AgentModel"):
        msgspec.convert(model["spec"], AgentModelSpec)
    steps = [step for _, task in TASKS for step in spec_of(task).steps]
    named = {name for step in steps if step.chat is not None for name in (step.chat.model, *step.chat.models) if name}
    named |= {step.embed.model for step in steps if step.embed is not None}
    fallbacks = {name for _, model in documents("AgentModel") for name in model["spec"].get("fallback", [])}
    assert named | fallbacks <= models


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_an_example_begins_with_what_it_shows(file: Path) -> None:
    assert file.read_text().startswith("# ")
