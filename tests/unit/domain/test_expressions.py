"""`when` and `forEach`: one expression to its native value, bounded as templates are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import AgentTaskError, InvalidTemplate, OutputTooLarge, StepFailed
from agenttask.domain.expressions import MAX_ITEMS, condition, items
from agenttask.domain.rendering import evaluate

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def values(json: Any = None, **more: Any) -> dict[str, Any]:
    step = {"text": "a b", "json": json, "files": {}, "exitCode": None, "results": [], "error": None}
    return {"params": {"p": "x"}, "steps": {"plan": step}, "task": {}, "attempt": 1, **more}


@given(json)
def test_a_value_comes_back_as_it_is(value: Any) -> None:
    assert evaluate("{{ steps.plan.json }}", values(value)) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ [1, 'a', params.p] }}", [1, "a", "x"]),
        ("  {{ attempt == 1 }}\n", True),
        ("{{ params.p ~ '!' }}", "x!"),
        ("{{ steps.plan.json | map(attribute='n') }}", [1, 2]),
        ("{{ steps.plan.json | selectattr('n', 'gt', 1) }}", [{"n": 2}]),
        ("{{ steps.plan.error }}", None),
        ("{{ {'a': attempt} }}", {"a": 1}),
    ],
)
def test_an_expression_gives_its_native_value(source: str, value: Any) -> None:
    assert evaluate(source, values([{"n": 1}, {"n": 2}])) == value


@pytest.mark.parametrize(
    "source",
    ["", "plain", "true", "{{ attempt }}{{ attempt }}", "a {{ attempt }}", "{% if attempt %}a{% endif %}", "{# a #}"],
)
def test_anything_but_one_expression_is_refused(source: str) -> None:
    with pytest.raises(InvalidTemplate, match=r"^f: is one expression and nothing around it, as in `\{\{ steps.plan.json \}\}`, not "):
        evaluate(source, values(), field="f")


@pytest.mark.parametrize("source", ["{{ 'a' * 300000000 }}", "{{ range(10) }}", "{{ 10 ** 10000000 }}", "{{ '%9999999999d' % 1 }}"])
def test_what_would_cost_gigabytes_is_outside_of_the_language(source: str) -> None:
    with pytest.raises(InvalidTemplate):
        evaluate(source, values())


def test_a_value_of_more_than_the_limit_is_refused() -> None:
    with pytest.raises(OutputTooLarge, match="f: the value is larger than 100 characters"):
        evaluate("{{ steps.plan.json }}", values(["x" * 60, "y" * 60]), field="f", limit=100)
    with pytest.raises(OutputTooLarge):
        evaluate("{{ steps.plan.text ~ steps.plan.text }}", {**values(), "steps": {"plan": {"text": "x" * 90}}}, limit=100)


def test_a_missing_value_is_a_typed_error_with_its_path() -> None:
    with pytest.raises(StepFailed, match=r"f: steps\.plan\.json has no 'b'; it has: a"):
        evaluate("{{ steps.plan.json.b }}", values({"a": 1}), field="f")


@pytest.mark.parametrize(
    ("source", "said"), [("{{ params.p == 'x' }}", True), ("{{ not attempt }}", False), ("{{ steps.plan.json }}", True)]
)
def test_a_condition_is_a_boolean(source: str, said: bool) -> None:
    assert condition(source, values(True), field="when") is said


@pytest.mark.parametrize(
    ("value", "shown"),
    [("true", r"a string \('true'\)"), (1, r"a number \(1\)"), (None, r"null \(None\)"), ([], r"a list \(\[\]\)"), ({}, r"a mapping")],
)
def test_a_condition_that_is_no_boolean_is_refused_with_its_type_and_value(value: Any, shown: str) -> None:
    with pytest.raises(StepFailed, match=f"^when: true or false is needed, this gives {shown}"):
        condition("{{ steps.plan.json }}", values(value), field="when")


@pytest.mark.parametrize("found", [[], [1], [{"a": 1}, "b", None]])
def test_items_are_a_list(found: list[Any]) -> None:
    assert list(items("{{ steps.plan.json }}", values(found), field="forEach")) == found


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), ("a,b", "a string"), ({"a": 1}, "a mapping"), (3, "a number"), (True, "a boolean")]
)
def test_what_is_no_list_is_refused_with_its_type(value: Any, shown: str) -> None:
    with pytest.raises(StepFailed, match=f"^forEach: a list is needed, this gives {shown} "):
        items("{{ steps.plan.json }}", values(value), field="forEach")


def test_a_hundred_thousand_items_are_too_many() -> None:
    assert len(items("{{ steps.plan.json }}", values(list(range(MAX_ITEMS))), field="forEach")) == MAX_ITEMS
    with pytest.raises(OutputTooLarge, match=r"^forEach: the list has 100000 items, a step goes through at most 10000;"):
        items("{{ steps.plan.json }}", values([0] * 100_000), field="forEach")


@given(st.text(max_size=40), json)
def test_nothing_but_errors_of_ours_escapes(source: str, value: Any) -> None:
    for template in (source, "{{ " + source + " }}"):
        try:
            evaluate(template, values(value), limit=4096)
        except AgentTaskError:
            continue
