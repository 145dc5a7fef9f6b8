"""What can be said of a JSON Schema without its library, which the controller's image does not have.

Size, depth, and the shape of the keywords that hold schemas. The step checks the rest before it does anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from agenttask.api.errors import InvalidTask
from agenttask.domain.nearest import quoted

MAX_SCHEMA_BYTES: Final = 16384
MAX_SCHEMA_DEPTH: Final = 32
TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_ONE: Final = ("additionalProperties", "items", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedProperties")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def check_schema(schema: Mapping[str, Any], field: str) -> None:
    """Refuse what is no schema at first sight.

    Raises:
        InvalidTask: with the path inside the schema.
    """
    size = len(msgspec.json.encode(schema))
    if size > MAX_SCHEMA_BYTES:
        raise InvalidTask(field, f"has {size} bytes as JSON, a schema has at most {MAX_SCHEMA_BYTES}")
    _schema(schema, field, 0)


def _schema(schema: Any, path: str, depth: int) -> None:
    if depth > MAX_SCHEMA_DEPTH:
        raise InvalidTask(path, f"the schema is nested more than {MAX_SCHEMA_DEPTH} deep")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise InvalidTask(path, f"a schema is a mapping, true or false, not {quoted(schema)}")
    _type(schema.get("type", "object"), f"{path}.type")
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise InvalidTask(f"{path}.$ref", f"refers inside the schema, as `#/$defs/name`, not to {quoted(reference)}: nothing is fetched")
    for inner, where in _subschemas(schema, path):
        _schema(inner, where, depth + 1)
    for position, name in enumerate(_list(schema.get("required", []), f"{path}.required")):
        if not isinstance(name, str):
            raise InvalidTask(f"{path}.required[{position}]", f"is a property's name, not {quoted(name)}")
    _list(schema.get("enum", []), f"{path}.enum")


def _subschemas(schema: Mapping[str, Any], path: str) -> Iterator[tuple[Any, str]]:
    """What the keywords hold that are made of schemas."""
    for name in _ONE:
        if name in schema:
            yield schema[name], f"{path}.{name}"
    for name in _LISTS:
        for position, each in enumerate(_list(schema.get(name, []), f"{path}.{name}")):
            yield each, f"{path}.{name}[{position}]"
    for name in _NAMED:
        named = schema.get(name, {})
        if not isinstance(named, Mapping):
            raise InvalidTask(f"{path}.{name}", f"maps names to schemas, it is no {quoted(named)}")
        for key, each in named.items():
            yield each, f"{path}.{name}.{key}"


def _type(given: Any, path: str) -> None:
    for name in given if isinstance(given, list) else [given]:
        if name not in TYPES:
            raise InvalidTask(path, f"{quoted(name)} is none of {', '.join(TYPES)}")


def _list(value: Any, path: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidTask(path, f"is a list, not {quoted(value)}")
    return value
