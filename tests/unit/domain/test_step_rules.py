"""Common fields of a step and the names that its templates see; every problem with its field."""

from typing import Any

import msgspec
import pytest

from agenttask.api.errors import InvalidTask, InvalidTemplate
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.validation import validate

READ = {"name": "docs", "read": {"paths": ["a.md"]}}


def spec(step: dict[str, Any], **fields: Any) -> AgentTaskSpec:
    return msgspec.convert({"steps": [READ, {"name": "one", **step}], **fields}, AgentTaskSpec)


def step(command: str = "true", **fields: Any) -> dict[str, Any]:
    return {"exec": {"command": [command]}, **fields}


EACH = {"forEach": "{{ steps.docs.json }}"}
RETRY = {"retry": {"limit": 1}}


@pytest.mark.parametrize(
    "accepted",
    [
        pytest.param(step("{{ item.a }} {{ index }} {{ previous.text | default('') }} {{ lastError }}", **EACH, **RETRY), id="all names"),
        pytest.param(step("{{ item }}", **EACH, parallelism=4), id="parallel"),
        pytest.param(step("{% if previous %}{{ previous.error }}{% endif %}", **EACH), id="previous alone"),
        pytest.param(step("{% for item in steps.docs.json %}{{ item }}{% endfor %}"), id="a loop's own item"),
        pytest.param(step(when="{{ steps.docs.error == none }}"), id="when"),
        pytest.param(step(timeoutSeconds="{{ item.timeout }}", **EACH), id="time-out of an item"),
        pytest.param(step(timeoutSeconds="30"), id="time-out as text"),
        pytest.param(step(keepFiles=["out/{{ index }}.json", "a.md"], **EACH), id="keepFiles"),
        pytest.param(
            {"chat": {"model": "m", "prompt": "x", "stop": ["{{"], "responseSchema": {"const": "{{ nothing }}"}}}, id="literal chat"
        ),
        pytest.param(
            {"exec": {"command": ["a"], "waitFile": {"path": "x", "timeoutSeconds": "{{ params.t }}", "jsonSchema": {"const": "{% x"}}}},
            id="literal wait file",
        ),
        pytest.param({"git": {"commit": {"path": ".", "message": "{{ params.t }}", "author": "{{ x }} <a@b>"}}}, id="literal author"),
    ],
)
def test_what_fits_together_is_accepted(accepted: dict[str, Any]) -> None:
    validate(spec(accepted, params={"t": "3"}), step_kinds=None)


@pytest.mark.parametrize(
    ("refused", "field", "said"),
    [
        pytest.param(
            step("{{ item }}"),
            "exec.command[0]",
            "'item' is unknown here; there are: attempt, params, steps, task; only a step with `forEach` has it",
            id="item",
        ),
        pytest.param(
            step("{{ index }}", **RETRY),
            "exec.command[0]",
            "there are: attempt, lastError, params, steps, task; only a step with `forEach`",
            id="index",
        ),
        pytest.param(
            step("{{ previous.text }}", **EACH, parallelism=2),
            "exec.command[0]",
            "only a step with `forEach` and `parallelism: 1` has it",
            id="previous",
        ),
        pytest.param(step("{{ previous.txt }}", **EACH), "exec.command[0]", "previous has no 'txt'", id="field of previous"),
        pytest.param(step("{{ lastError }}"), "exec.command[0]", "only a step with `retry` has it", id="lastError"),
        pytest.param(
            step("{% for item in item %}x{% endfor %}", **EACH),
            "exec.command[0]",
            "'item' cannot be a loop's variable",
            id="loop over item",
        ),
        pytest.param(step(when="{{ item }}", **EACH), "when", "'item' is unknown here", id="when of an item"),
        pytest.param(step(forEach="{{ index }}"), "forEach", "'index' is unknown here", id="forEach of an item"),
        pytest.param(step(when="true"), "when", "is one expression and nothing around it", id="when is no expression"),
        pytest.param(
            step(forEach="{{ steps.docs.json }}, x"), "forEach", "is one expression and nothing around it", id="forEach with more"
        ),
        pytest.param(step(when="{{ steps.one.text == '' }}"), "when", "no step 'one' can be seen here", id="when of itself"),
        pytest.param(step(parallelism=2), "parallelism", "give `forEach`, or remove it", id="parallelism alone"),
        pytest.param(
            step(timeoutSeconds="soon"),
            "timeoutSeconds",
            "'soon' is no whole number of seconds from 1 to 604800; give one, or a template",
            id="time-out",
        ),
        pytest.param(step(timeoutSeconds="{{ item }}"), "timeoutSeconds", "'item' is unknown here", id="time-out's template"),
        pytest.param(
            {"exec": {"command": ["a"], "waitFile": {"path": "x", "timeoutSeconds": "0"}}},
            "exec.waitFile.timeoutSeconds",
            "'0' is no whole number",
            id="wait file",
        ),
        pytest.param(step(keepFiles=["/etc/passwd"]), "keepFiles[0]", "'/etc/passwd' is no path below the workspace", id="absolute"),
        pytest.param(step(keepFiles=["a", "b/../../c"]), "keepFiles[1]", "is no path below the workspace", id="climbing"),
        pytest.param(step(keepFiles=[""]), "keepFiles[0]", "is no path below the workspace", id="empty"),
        pytest.param(step(keepFiles=["{{ nothing }}"]), "keepFiles[0]", "'nothing' is unknown here", id="template of keepFiles"),
        pytest.param(
            {"chat": {"model": "m", "prompt": "x", "messages": [{"role": "User", "content": "{{ x }}"}]}},
            "chat.messages[0].content",
            "'x' is unknown",
            id="message",
        ),
        pytest.param(
            {"plugin": {"kind": "k", "with": {"stop": "{{ x }}"}}}, "plugin.with.stop", "'x' is unknown here", id="a plugin's own fields"
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_field(refused: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        validate(spec(refused), step_kinds=None)
    assert caught.value.field == f"spec.steps[1].{field}"
    assert said in caught.value.problem


def test_the_output_has_no_item() -> None:
    with pytest.raises(InvalidTemplate, match="'item' is unknown here"):
        validate(spec(step(**EACH), output="{{ item }}"), step_kinds=None)


def test_a_limit_for_a_kind_that_there_is_not_is_refused() -> None:
    validate(spec(step(), execution={"maxConcurrentByKind": {"exec": 1, "chat": 2}}), step_kinds=("exec", "read"))
    with pytest.raises(InvalidTask, match=r"spec.execution.maxConcurrentByKind: no step kind is called 'exce'.*did you mean 'exec'\?"):
        validate(spec(step(), execution={"maxConcurrentByKind": {"exce": 1}}), step_kinds=None)
