"""The one JSON value in an answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask_steps.answer import judge

ANY: dict = {}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)
CONTAINERS = st.lists(VALUES) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES)


@pytest.mark.parametrize(
    "answer",
    [
        '{"a": [1]}',
        ' \n{"a": [1]}\n',
        'Here it is:\n```json\n{"a": [1]}\n```\nAnything else?',
        '```\n{"a": [1]}\n```',
        '```{"a": [1]}```',
        'The value is {"a": [1]}, as asked.',
        'In {braces} and [brackets]: {"a": [1]}',
        '```python\nprint()\n```\n```json\n{"a": [1]}\n```',
    ],
    ids=["alone", "space", "fence", "fence-without-name", "fence-in-line", "prose", "not-json-before", "one-fence-of-two"],
)
def test_one_value_is_found(answer):
    judged = judge(answer, ANY)
    assert (judged.value, judged.problems) == ({"a": [1]}, ())


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ('{"a": 1} or {"a": 2}', 2),
        ("```json\n1\n```\n```json\n2\n```", 2),
        ('As in [1], the value is {"a": 1}', 2),
    ],
    ids=["two-objects", "two-fences", "a-list-before"],
)
def test_several_are_none(answer, count):
    assert judge(answer, ANY).problems == (f"it holds {count} JSON values, and not one",)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no",
        "NaN",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\ud800"}',
        '{"edits": [{"a": 1}, {"a"',
        '{"a": "unterm',
        "[" * 200_000,
        '{"a":' * 200_000,
    ],
    ids=["empty", "words", "nan", "nan-inside", "infinite", "surrogate", "cut", "cut-in-a-string", "deep-list", "deep-object"],
)
def test_no_value_is_told(answer):
    assert judge(answer, ANY).problems == ("it holds no JSON value",)


def test_a_part_of_what_was_cut_is_no_answer():
    assert judge('{"edits": [{"file": "a"}', {"required": ["file"]}).value is None


def test_a_value_that_does_not_fit_is_told_with_its_path():
    judged = judge('{"a": ["x"]}', {"properties": {"a": {"items": {"type": "integer"}}}})
    assert judged.problems == ("$.a[0]: 'x' is not of type 'integer'",)


@given(VALUES, st.sampled_from(["{}", "```json\n{}\n```", "Sure:\n```\n{}\n```\nDone."]))
def test_any_value_comes_back(value, around):
    raw = json.dumps(value)
    if "```" not in raw:
        assert judge(around.replace("{}", raw), ANY).value == value


@given(CONTAINERS, st.sampled_from(["Here: {} Done.", "x {}"]))
def test_a_container_in_prose_comes_back(value, around):
    raw = json.dumps(value)
    if "```" not in raw:
        assert judge(around.replace("{}", raw), ANY).value == value


@given(st.text(alphabet='{}[]":,`\\ntrue1 \n'))
def test_no_text_makes_it_fail(text):
    judged = judge(text, ANY)
    assert judged.problems in ((), ("it holds no JSON value",)) or "JSON values" in judged.problems[0]
