"""A response schema is looked at for size, depth and shape; what is no schema is refused with the path inside of it."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import InvalidTask
from agenttask.domain.json_schema import MAX_SCHEMA_DEPTH, check_schema


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "required": ["edits"], "properties": {"edits": {"type": "array", "items": {"type": "string"}}}},
        {"type": ["string", "null"], "enum": ["{{ a }}", None], "pattern": "^{{$"},
        {"anyOf": [{"$ref": "#/$defs/x"}, True], "$defs": {"x": {"not": False}}, "additionalProperties": False},
        nested(MAX_SCHEMA_DEPTH),
    ],
)
def test_a_schema_is_accepted(schema: dict[str, Any]) -> None:
    check_schema(schema, "f")


@pytest.mark.parametrize(
    ("schema", "field", "said"),
    [
        ({"type": "strnig"}, "f.type", "'strnig' is none of object, array"),
        ({"type": {}}, "f.type", "{} is none of"),
        ({"type": ["string", 3]}, "f.type", "3 is none of"),
        ({"properties": []}, "f.properties", "maps names to schemas, it is no []"),
        ({"properties": {"a": "string"}}, "f.properties.a", "a schema is a mapping, true or false, not 'string'"),
        ({"items": {"properties": {"a": 1}}}, "f.items.properties.a", "a schema is a mapping"),
        ({"anyOf": {"type": "string"}}, "f.anyOf", "is a list, not"),
        ({"anyOf": [3]}, "f.anyOf[0]", "a schema is a mapping"),
        ({"required": "a"}, "f.required", "is a list, not 'a'"),
        ({"required": [1]}, "f.required[0]", "is a property's name, not 1"),
        ({"enum": "a"}, "f.enum", "is a list, not 'a'"),
        ({"$ref": "https://example.com/schema"}, "f.$ref", "nothing is fetched"),
        ({"description": "x" * 17000}, "f", "has 17018 bytes as JSON, a schema has at most 16384"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_path(schema: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        check_schema(schema, "f")
    assert caught.value.field == field
    assert said in caught.value.problem


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(InvalidTask, match=f"nested more than {MAX_SCHEMA_DEPTH} deep"):
        check_schema(nested(MAX_SCHEMA_DEPTH + 1), "f")


@given(
    st.dictionaries(
        st.sampled_from(["type", "properties", "items", "anyOf", "required", "$ref", "enum", "$defs", "x"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3) | st.booleans(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_nothing_but_invalid_task_escapes(schema: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidTask):
        check_schema(schema, "f")
