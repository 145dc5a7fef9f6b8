"""At each bound of each field our types say what the schema says; what the API server says is in tests/integration/crds."""

from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.unit.crds.schema_objects import KINDS, body, edges, specs

from agenttask.api.errors import AgentTaskError
from agenttask.api.model import AgentModel
from agenttask.api.queue import AgentQueue
from agenttask.api.steps import STEP_KINDS
from agenttask.api.task import AgentTask
from agenttask.controller.task_cache import read_task
from agenttask.domain.validation import validate

TYPES = {"agenttasks": AgentTask, "agentmodels": AgentModel, "agentqueues": AgentQueue}
MOST_SAID = 32768
"""What a condition's message holds."""


def refusal(plural: str, document: dict[str, Any]) -> str | None:
    """Why our type does not take an object as it comes over the wire, or None."""
    try:
        msgspec.json.decode(msgspec.json.encode(document), type=TYPES[plural])
    except msgspec.ValidationError as error:
        return str(error)
    return None


@pytest.mark.parametrize("plural", KINDS)
def test_each_bound_of_the_schema_is_one_of_the_type(plural: str) -> None:
    told = {str(edge): (edge.valid, refusal(plural, edge.body)) for edge in edges(plural)}
    wrong = {what: why for what, (valid, why) in told.items() if valid == (why is not None)}
    assert wrong == {}
    assert {valid for valid, _ in told.values()} == {True, False}


@pytest.mark.parametrize("plural", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_what_the_schema_allows_the_type_takes(plural: str, data: st.DataObject) -> None:
    document = body(plural, data.draw(specs(plural)))
    assert refusal(plural, document) is None


@settings(max_examples=40)
@given(spec=specs("agenttasks"))
def test_validation_ends_in_nothing_or_a_sentence(spec: dict[str, Any]) -> None:
    """Whatever the schema lets pass: no other exception, and a message that status can hold."""
    task = read_task(body("agenttasks", spec) | {"metadata": {"name": "a" * 253, "uid": "u"}})
    assert task is not None
    assert task.spec is not None
    said = ""
    try:
        validate(task.spec, step_kinds=(*STEP_KINDS, "shout"))
    except AgentTaskError as error:
        said = str(error)
        event(type(error).__name__)
    assert len(said) < MOST_SAID


def test_a_task_that_the_type_refuses_is_a_task_with_a_problem() -> None:
    """An older schema may have let it in: it fails with a sentence, and stops nothing."""
    read = {str(edge): read_task(edge.body) for edge in edges("agenttasks") if not edge.valid}
    assert [what for what, task in read.items() if task is None or task.spec is not None or not task.problem] == []
    assert len(read) > 100
