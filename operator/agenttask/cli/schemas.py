"""Checking an object against the schema of its CRD, as the API server does, with messages for a person.

The CRDs are part of the package (`agenttask/crds`); in a checkout they are at its root. What CEL rules say is said by
`domain.validation` for tasks, and by `checking` for models.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from agenttask.domain.nearest import did_you_mean, listed

_KEEPS_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_LIST_TYPE = "x-kubernetes-list-type"
_END = r"\Z"
"""In Python `$` also matches before a line's end, with which a block of YAML ends."""
_MISSING = re.compile(r"'(.*)' is a required property")


class Schemas:
    """The schemas of our kinds."""

    def __init__(self, folder: Traversable) -> None:
        self._folder = folder

    @functools.cached_property
    def kinds(self) -> dict[str, Any]:
        """Schema by kind."""
        found = {}
        for entry in sorted(self._folder.iterdir(), key=lambda each: each.name):
            if entry.name.endswith(".yaml"):
                spec = yaml.safe_load(entry.read_text())["spec"]
                found[spec["names"]["kind"]] = _plain(spec["versions"][0]["schema"]["openAPIV3Schema"])
        return found

    def problems(self, kind: str, body: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Field path and problem, in the order of the fields."""
        schema = self.kinds[kind]
        yield from _unknown(body, schema, "")
        validator = jsonschema.Draft7Validator(schema)
        for error in sorted(validator.iter_errors(body), key=lambda each: [str(part) for part in each.absolute_path]):
            missing = _MISSING.fullmatch(error.message) if error.validator == "required" else None
            yield (
                (_path([*error.absolute_path, missing[1]]), "is missing")
                if missing is not None
                else (_path(error.absolute_path), _message(error))
            )
        yield from _repeated(body, schema, "")


def packaged_schemas() -> Schemas:
    """Those that are installed, or those of this checkout."""
    package = files("agenttask")
    installed = package / "crds"
    return Schemas(installed if installed.is_dir() else Path(str(package)).parents[1] / "crds")


def _plain(schema: Any) -> Any:
    """The schema in the words of JSON Schema and of Python: a whole number that may be a string has a type of two, `$` is the very end."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: value if key == "default" else _plain(value) for key, value in schema.items()}
    pattern = plain.get("pattern")
    if isinstance(pattern, str) and pattern.endswith("$"):
        plain["pattern"] = f"{pattern[:-1]}{_END}"
    return {"type": ["integer", "string"], **plain} if schema.get(_INT_OR_STRING) is True else plain


def _repeated(value: Any, schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Entries that stand twice in a list that is a set, or a map by some of its fields."""
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if key in value:
                yield from _repeated(value[key], inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict) and len(value) <= schema.get("maxItems", 0):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        seen: list[Any] = []
        for index, item in enumerate(value):
            where = f"{path}[{index}]"
            if schema.get(_LIST_TYPE) in ("set", "map"):
                identity = [item.get(key) for key in keys] if keys and isinstance(item, dict) else item
                if identity in seen:
                    yield where, f"{_named(identity)} stands twice in the list"
                seen.append(identity)
            yield from _repeated(item, schema["items"], where)


def _named(identity: Any) -> str:
    return ", ".join(map(repr, identity)) if isinstance(identity, list) else repr(identity)


def _unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Fields that the schema does not have: the API server would drop them, kubectl refuses them."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        closed = "properties" in schema and not schema.get(_KEEPS_UNKNOWN) and "additionalProperties" not in schema
        for key, item in value.items():
            where = f"{path}.{key}" if path else str(key)
            if key in known:
                yield from _unknown(item, known[key], where)
            elif closed:
                yield where, f"unknown field {key!r}; known: {listed(known)}{did_you_mean(str(key), known)}"
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from _unknown(item, schema["additionalProperties"], where)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{path}[{index}]")


def _path(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _message(error: jsonschema.ValidationError) -> str:
    instance: Any = error.instance
    bound: Any = error.validator_value
    shown = repr(instance)
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    match error.validator:
        case "type" if bound == "string" and isinstance(instance, int | float) and not isinstance(instance, bool):
            return f'{shown} is no string; write it in quotes, as "{shown}"'
        case "type":
            return f"{shown} is no {bound if isinstance(bound, str) else ' or '.join(bound)}"
        case "enum":
            return f"{shown} is none of {', '.join(map(str, bound))}"
        case "pattern":
            return f"{shown} does not match {bound.replace(_END, '$')}"
        case "maxLength" | "minLength":
            return f"{shown} has {len(instance)} characters, {_bound(error)}"
        case "maxItems" | "minItems" | "maxProperties" | "minProperties":
            return f"has {len(instance)} entries, {_bound(error)}"
        case "maximum" | "minimum":
            return f"{shown}: {_bound(error)}"
        case _:
            return str(error.message)


def _bound(error: jsonschema.ValidationError) -> str:
    most = str(error.validator).startswith("max")
    return f"{'at most' if most else 'at least'} {error.validator_value} {'is' if error.validator_value == 1 else 'are'} allowed"
