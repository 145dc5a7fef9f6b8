"""Checking an object against the schema of its CRD, as the API server does, with messages for a person.

The CRDs are part of the package (`agenttask/crds`); in a checkout they are at its root. What CEL rules say is said by
`domain.validation` for tasks, and by `checking` for models.
"""

import functools
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from agenttask.domain.nearest import did_you_mean, listed

_KEEPS_UNKNOWN = "x-kubernetes-preserve-unknown-fields"


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
                found[spec["names"]["kind"]] = spec["versions"][0]["schema"]["openAPIV3Schema"]
        return found

    def problems(self, kind: str, body: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Field path and problem, in the order of the fields."""
        schema = self.kinds[kind]
        yield from _unknown(body, schema, "")
        validator = jsonschema.Draft7Validator(schema)
        for error in sorted(validator.iter_errors(body), key=lambda each: [str(part) for part in each.absolute_path]):
            yield _path(error.absolute_path), _message(error)


def packaged_schemas() -> Schemas:
    """Those that are installed, or those of this checkout."""
    package = files("agenttask")
    installed = package / "crds"
    return Schemas(installed if installed.is_dir() else Path(str(package)).parents[1] / "crds")


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
        case "required":
            return str(error.message).replace("is a required property", "is missing")
        case "type":
            return f"{shown} is no {bound}"
        case "enum":
            return f"{shown} is none of {', '.join(map(str, bound))}"
        case "pattern":
            return f"{shown} does not match {bound}"
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
