"""Walks the hand-written CRD schemas and the `api` types, and says where they differ.

Both sides become the same small JSON-schema form; the difference is a list of sentences that begin with the path. In the
spec everything must be equal. In the status only names, types and enums are: the controller's types carry no bounds
there, and its fields have no defaults on the server.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as inspect
import yaml

CRDS = Path(__file__).parents[3] / "crds"
COMPARED = (
    "type",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "default",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
)
SHAPE = ("type", "enum")
INT_OR_STRING = "x-kubernetes-int-or-string"


def load(name: str) -> dict[str, Any]:
    """One CRD as it stands in the repository."""
    return yaml.safe_load((CRDS / f"{name}.yaml").read_text())


def schema(crd: dict[str, Any], *path: str) -> dict[str, Any]:
    """The schema of its only version, or of a property below it."""
    node: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path:
        node = node["properties"][name]
    return node


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node with its path: `spec.steps[].chat.model`, `spec.params{}`."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}" if path else name)
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def kind_of(node: dict[str, Any]) -> str:
    """The type of a node; a whole number that may be a string has none of its own."""
    return "int-or-string" if node.get(INT_OR_STRING) else str(node["type"])


def of_type(python_type: Any) -> dict[str, Any]:
    """The schema that an `api` type stands for."""
    return _convert(inspect.type_info(python_type))


def _convert(info: inspect.Type) -> dict[str, Any]:
    match info:
        case inspect.Metadata(type=inner):
            return _convert(inner)
        case inspect.UnionType(types=types):
            return _union([_convert(each) for each in types if not isinstance(each, inspect.NoneType)])
        case inspect.StructType(fields=fields):
            return _struct(fields)
        case inspect.StrType():
            return _given(type="string", minLength=info.min_length, maxLength=info.max_length, pattern=info.pattern)
        case inspect.IntType():
            return _given(type="integer", minimum=info.ge, maximum=info.le)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.VarTupleType() | inspect.ListType():
            return _given(type="array", minItems=info.min_length, maxItems=info.max_length, items=_convert(info.item_type))
        case inspect.DictType(value_type=inspect.AnyType()):
            preserve = {"x-kubernetes-preserve-unknown-fields": True}
            return _given(type="object", maxProperties=info.max_length) | preserve
        case inspect.DictType():
            return _given(type="object", maxProperties=info.max_length, additionalProperties=_convert(info.value_type))
        case inspect.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case inspect.EnumType(cls=cls):
            return {"type": "string", "enum": [str(member.value) for member in cls]}
    raise AssertionError(f"a type that no CRD field may have: {info!r}")


def _struct(fields: tuple[inspect.Field, ...]) -> dict[str, Any]:
    properties = {}
    for field in fields:
        child = _convert(field.type)
        if field.default is not inspect.NODEFAULT:
            child |= _default(field.default, child)
        elif field.default_factory is not inspect.NODEFAULT:
            child |= _default(field.default_factory(), child)
        properties[field.encode_name] = child
    return {"type": "object", "properties": properties} | _given(required=sorted(f.encode_name for f in fields if f.required) or None)


def _union(members: list[dict[str, Any]]) -> dict[str, Any]:
    """One type, or the one union that the API server knows: the bounds of both, each for its own kind of value."""
    if len(members) == 1:
        return members[0]
    merged = {key: value for member in members for key, value in member.items() if key != "type"}
    if sorted(member["type"] for member in members) != ["integer", "string"]:
        raise AssertionError(f"a union that no CRD field may have: {members!r}")
    return merged | {INT_OR_STRING: True}


def _default(value: Any, child: dict[str, Any]) -> dict[str, Any]:
    """What the server fills in: nothing for what is empty, false or 0, `{}` for a struct that has a default inside, else the value."""
    if isinstance(value, msgspec.Struct):
        return {"default": {}} if any("default" in each for each in child["properties"].values()) else {}
    plain = msgspec.to_builtins(value)
    return {} if plain in (None, "", 0, (), [], {}) else {"default": list(plain) if isinstance(plain, tuple) else plain}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def differences(crd: dict[str, Any], wanted: dict[str, Any], path: str, compared: tuple[str, ...] = COMPARED) -> list[str]:
    """Where a CRD's node is not what the type stands for; empty when they are equal."""
    found = []
    for key in compared:
        left, right = crd.get(key), wanted.get(key)
        if key in ("required", "enum"):
            left, right = sorted(left or []), sorted(right or [])
        if key == "default" and left in (False, 0):
            left = None  # said for the reader's sake, and for rules and columns; the type's own is the same
        if left != right:
            found.append(f"{path}: {key} is {left!r} in the CRD and {right!r} in the type")
    ours, theirs = crd.get("properties", {}), wanted.get("properties", {})
    found += [f"{path}.{name}: in the CRD only" for name in ours.keys() - theirs.keys()]
    found += [f"{path}.{name}: in the type only" for name in theirs.keys() - ours.keys()]
    for name in sorted(ours.keys() & theirs.keys()):
        found += differences(ours[name], theirs[name], f"{path}.{name}", compared)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if (key in crd) != (key in wanted):
            found.append(f"{path}: {key} is only in the {'CRD' if key in crd else 'type'}")
        elif key in crd:
            found += differences(crd[key], wanted[key], path + mark, compared)
    return found
