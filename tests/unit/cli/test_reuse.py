"""What may be taken over when a task's file changes, and what must run again."""

from typing import Any

import msgspec
import pytest

from agenttask.api.document import TaskDocument
from agenttask.cli.reuse import unchanged_steps

STEPS: list[dict[str, Any]] = [
    {"name": "docs", "read": {"paths": ["/inputs/x/a.md"]}},
    {"name": "ideas", "needs": [], "chat": {"model": "small", "prompt": "{{ params.q }}"}},
    {"name": "plan", "needs": ["docs", "ideas"], "chat": {"model": "large", "prompt": "{{ steps.ideas.text }}"}},
    {"name": "note", "write": {"path": "n.txt", "content": "{{ steps.plan.text }}"}},
]


def document(steps: list[dict[str, Any]] = STEPS, small: str = "s", spare: str = "p", ca: str = "/1", **spec: Any) -> TaskDocument:
    models = [
        {"name": "small", "client": "c", "model": small},
        {"name": "large", "client": "c", "model": "l", "fallback": ["spare"], "caFile": ca},
        {"name": "spare", "client": "c", "model": spare},
    ]
    body = {"task": {"name": "t", "namespace": "n", "uid": "u"}, "spec": {"steps": steps, "params": {"q": "?"}, **spec}, "models": models}
    return msgspec.convert(body, TaskDocument)


def changed(index: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**step, **fields} if position == index else step for position, step in enumerate(STEPS)]


def test_all_is_taken_over_when_nothing_has_changed() -> None:
    assert unchanged_steps(document(), document(), inputs_changed=False) == {"docs", "ideas", "plan", "note"}


@pytest.mark.parametrize(
    ("after", "inputs_changed", "same"),
    [
        pytest.param(document(changed(3, write={"path": "m.txt", "content": ""})), False, {"docs", "ideas", "plan"}, id="the last step"),
        pytest.param(document(changed(1, timeoutSeconds=5)), False, {"docs"}, id="a step that others need"),
        pytest.param(document(small="other"), False, {"docs"}, id="a model"),
        pytest.param(document(spare="other"), False, {"docs", "ideas"}, id="a fallback of a model"),
        pytest.param(document(ca="/2"), False, {"docs", "ideas", "plan", "note"}, id="where a run has its certificates"),
        pytest.param(document(params={"q": "!"}), False, set(), id="a param"),
        pytest.param(document(pod={"env": [{"name": "A", "value": "b"}]}), False, set(), id="a variable"),
        pytest.param(document(), True, {"ideas"}, id="an input"),
        pytest.param(document(changed(2, needs=["ideas"])), False, {"docs", "ideas"}, id="a need"),
        pytest.param(document(STEPS[:2] + STEPS[3:]), False, {"docs", "ideas"}, id="a step that is gone, by the order of the list"),
        pytest.param(document(output="x"), False, {"docs", "ideas", "plan", "note"}, id="the output only"),
    ],
)
def test_what_has_changed_runs_again_with_all_that_needs_it(after: TaskDocument, inputs_changed: bool, same: set[str]) -> None:
    assert unchanged_steps(document(), after, inputs_changed=inputs_changed) == same


def test_a_step_whose_secret_has_changed_runs_again_with_all_that_needs_it() -> None:
    assert unchanged_steps(document(), document(), inputs_changed=False, secrets_changed={"plan"}) == {"docs", "ideas"}
