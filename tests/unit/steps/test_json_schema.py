"""Schemas that a user writes, and values held against them, without a network."""

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import InvalidTask
from agenttask_steps.json_schema import check_schema, problems_of


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objct"}, r"^f\.type: 'objct'"),
        ({"properties": {"a": 5}}, r"^f\.properties\.a: 5"),
        ({"pattern": "("}, r"^f\.pattern: '\('"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, r"^f\.\$schema: .*draft-07.* is not understood"),
        ({"$schema": 7}, r"^f\.\$schema: 7 is not understood"),
        ({"$ref": "https://example.com/schema.json"}, r"^f: \$ref 'https://example.com/schema.json' leads nowhere.*nothing is fetched"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "file:///etc/passwd"),
        ({"items": {"$ref": "#/$defs/absent"}}, "#/\\$defs/absent"),
    ],
    ids=["type", "subschema", "pattern", "dialect", "dialect-no-string", "remote", "file", "nowhere"],
)
def test_a_schema_that_is_none_is_refused_with_its_place(schema, said):
    with pytest.raises(InvalidTask, match=said):
        check_schema(schema, "f")


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(InvalidTask, match="too deeply"):
        check_schema(schema, "f")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}},
        {"$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "integer"}}},
        {"$id": "https://example.com/whole", "$ref": "part", "$defs": {"x": {"$id": "part", "type": "integer"}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"},
    ],
    ids=["pointer", "anchor", "embedded", "dialect"],
)
def test_references_inside_are_followed(schema):
    check_schema(schema, "f")
    assert problems_of(1, schema) == []
    assert problems_of("x", schema) == ["$: 'x' is not of type 'integer'"]


def test_a_property_called_ref_is_no_reference():
    check_schema({"properties": {"$ref": {"type": "string"}}, "const": {"$ref": "https://example.com"}}, "f")


def test_problems_name_path_and_value_and_are_few():
    schema = {"properties": {"edits": {"items": {"type": "string"}}}}
    found = problems_of({"edits": list(range(100))}, schema)
    assert len(found) == 5
    assert found[1] == "$.edits[1]: 1 is not of type 'string'"


def test_a_long_value_does_not_hide_what_is_wrong():
    (found,) = problems_of("x" * 10_000, {"type": "integer"})
    assert found.startswith("$: 'xxx")
    assert found.endswith("does not fit type 'integer'")
    assert len(found) < 400


def test_a_schema_that_refers_to_itself_without_end_is_told():
    assert problems_of(1, {"$ref": "#"}) == ["$: the schema refers to itself without end, or the value is nested too deeply"]


def test_a_number_beyond_all_bounds_is_told():
    assert problems_of(10**400, {"multipleOf": 0.1}) == ["$: a number is too large to be checked"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"pattern": "^(a|aa)+$"}, "a" * 80 + "b", id="a value"),
        pytest.param({"patternProperties": {"^(a|aa)+$": {}}}, {"a" * 80 + "b": 1}, id="a name"),
        pytest.param({"additionalProperties": False, "patternProperties": {"^(a|aa)+$": {}}}, {"a" * 80 + "b": 1}, id="another name"),
        pytest.param({"items": {"pattern": "^(a|aa)+$"}}, ["a" * 80 + "b"] * 1000, id="many values"),
    ],
)
def test_a_pattern_that_takes_for_ever_is_told(schema, value):
    assert problems_of(value, schema) == ["$: the pattern '^(a|aa)+$' takes more than 1 s with this value; simplify it"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "pattern": st.sampled_from(["^a+$", "b", "^(a|b){2}$"]),
            "properties": st.just({"a": {"type": "integer"}}),
            "patternProperties": st.sampled_from([{"^b": {"type": "string"}}, {"a": False, "c$": {}}]),
            "additionalProperties": st.sampled_from([True, False, {"type": "integer"}]),
        },
    ),
    st.text("abc", max_size=4) | st.dictionaries(st.text("abc", max_size=3), st.integers() | st.text(max_size=2), max_size=4),
)
def test_values_fit_as_the_library_says(schema, value):
    assert (problems_of(value, schema) == []) is jsonschema.Draft202012Validator(schema).is_valid(value)
