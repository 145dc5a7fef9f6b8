"""JSON Schema (Draft 2020-12): a schema that a user wrote is checked before anything is done for it, then values are.

Nothing is ever fetched: a `$ref` leads into the schema itself or to the published meta-schemas. Functions of plain values,
so that a strategy may run them on a thread or in another process.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agenttask.api.errors import InvalidTask
from agenttask.api.report import shorten
from agenttask_steps.schema_patterns import PATTERN_SECONDS, Patterns, PatternTooSlow

if TYPE_CHECKING:
    import jsonschema
    from referencing.jsonschema import SchemaRegistry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SHOWN_ERRORS = 5
_SHOWN_CHARACTERS = 300
_REFERENCES = ("$ref", "$dynamicRef")


def check_schema(schema: Mapping[str, Any], field: str) -> None:
    """See that it is a schema, and that all it refers to is in it.

    Raises:
        InvalidTask: it is not; `field` is the schema's place in the task, the message has the place in the schema.
    """
    import jsonschema  # the controller loads the step kinds for their names, and its image has no jsonschema

    dialect = schema.get("$schema", _DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != _DIALECT:
        raise InvalidTask(f"{field}.$schema", f"{shorten(repr(dialect), 120)} is not understood; leave it out, or use {_DIALECT}")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        _references(schema, field)
    except jsonschema.SchemaError as error:
        raise InvalidTask(_place(field, error.json_path), shorten(error.message, _SHOWN_CHARACTERS)) from error
    except RecursionError as error:
        raise InvalidTask(field, "the schema is nested too deeply") from error


def problems_of(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """What keeps `value` from fitting a checked schema, each with its path and the value there; the first few."""
    import jsonschema

    try:
        judge = jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # the stub gives it no types
            jsonschema.Draft202012Validator, validators=Patterns().keywords
        )
        found = judge(schema, registry=_published()).iter_errors(value)
        return [f"{error.json_path}: {_said(error)}" for error in itertools.islice(found, _SHOWN_ERRORS)]
    except PatternTooSlow as slow:
        return [f"$: the pattern {shorten(repr(str(slow)), 120)} takes more than {PATTERN_SECONDS:g} s with this value; simplify it"]
    except RecursionError:
        return ["$: the schema refers to itself without end, or the value is nested too deeply"]
    except OverflowError:
        return ["$: a number is too large to be checked"]


def _said(error: "jsonschema.ValidationError") -> str:
    """The library's own words, or where a long value would push them out, ours."""
    if len(error.message) <= _SHOWN_CHARACTERS:
        return error.message
    short = _SHOWN_CHARACTERS // 2
    return f"{shorten(repr(error.instance), short)} does not fit {error.validator} {shorten(repr(error.validator_value), short)}"


def _references(schema: Mapping[str, Any], field: str) -> None:
    """Resolve every reference without a network."""
    import referencing.exceptions
    from referencing.jsonschema import DRAFT202012

    root = DRAFT202012.create_resource(schema)
    waiting = [(root, _published().resolver_with_root(root))]
    while waiting:
        resource, resolver = waiting.pop()
        if isinstance(resource.contents, Mapping):
            for keyword in _REFERENCES:
                target = resource.contents.get(keyword)
                if isinstance(target, str):
                    try:
                        resolver.lookup(target)
                    except referencing.exceptions.Unresolvable as error:
                        problem = f"{keyword} {shorten(repr(target), 120)} leads nowhere in the schema, and nothing is fetched; use $defs"
                        raise InvalidTask(field, problem) from error
        waiting += [(each, resolver.in_subresource(each)) for each in resource.subresources()]


def _published() -> "SchemaRegistry":
    """The meta-schemas; a registry given by name keeps the library from asking the network."""
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it has no types

    registry: SchemaRegistry = REGISTRY
    return registry


def _place(field: str, path: str) -> str:
    """`$.properties.a` in the schema, as a place in the task."""
    return f"{field}{path.removeprefix('$')}"
