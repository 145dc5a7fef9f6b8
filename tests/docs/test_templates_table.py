"""docs/steps.md lists the names and filters that templates have: no more and no fewer."""

import re
from pathlib import Path

from agenttask.domain.filters import FILTERS
from agenttask.domain.language import SOMETIMES, STEP_FIELDS, TASK_FIELDS, Scope
from agenttask.domain.templates import check

PAGE = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()


def row(name: str) -> str:
    found = re.search(rf"^\| {name} \| (.*) \|$", PAGE, re.MULTILINE)
    assert found is not None, name
    return found.group(1)


def test_the_filters_are_those_there_are() -> None:
    assert re.findall(r"`([a-z]+)`", row("filters")) == list(FILTERS)


def test_the_fields_of_steps_and_of_the_task_are_those_there_are() -> None:
    names = row("names")
    assert f"steps.<name>.{{{','.join(STEP_FIELDS)}}}" in names
    assert f"task.{{{','.join(TASK_FIELDS)}}}" in names


def test_names_that_not_every_template_has_are_on_the_page() -> None:
    assert [name for name in SOMETIMES if f"| `{name}` |" not in PAGE] == []


def test_the_expressions_of_the_page_are_allowed() -> None:
    scope = Scope(params={"a": "x"}, steps=["write-tests", "b"])
    for source in (
        "{{ 'x' in params.a and not attempt > 2 }}",
        "{{ steps['write-tests'].json.a if params.a == 'x' else '' }}",
        "{{ 1 ~ 'a' }}",
    ):
        check(source, field="spec.output", scope=scope)
