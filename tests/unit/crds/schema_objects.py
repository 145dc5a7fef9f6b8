"""Objects made from the schemas of the CRDs: one for each bound of each field (below, at and above it), and random ones.

`edges(name)` walks a schema and spoils, or stretches, one field of an otherwise small object at a time; `specs(name)` is a strategy
for whole ones: smallest, largest, unicode, long names, long maps, every enum value. Both know of the rules beside the schema only what
`CHOICES` and `COMPANIONS` say, so that most of what comes out is a valid object.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct
from tests.unit.crds.schema_walk import INT_OR_STRING, load, schema

KINDS = {"agenttasks": "AgentTask", "agentmodels": "AgentModel", "agentqueues": "AgentQueue"}
UNICODE = "grüße \U0001f469‍\U0001f680 ‮ أهلا ￼\t"
LONGEST_TEXT = 300
"""Most of the generated texts are this long at most; a body has at most 3 MiB for the API server and 200 KiB for a pod."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "steps[]": ("read", "write", "exec", "chat", "embed", "retrieve", "fetch", "git", "plugin"),
    "inputs[]": ("configMap", "persistentVolumeClaim"),
    "env[]": ("value", "secretKeyRef"),
    "headers{}": ("value", "secretKeyRef"),
    "headers[]": ("value", "secretKeyRef"),
    "git": ("clone", "commit", "diff"),
    "volumes[]": ("emptyDir", "persistentVolumeClaim", "configMap", "secret"),
    "local": ("package", "path", "persistentVolumeClaim", "hub"),
}
"""Of these fields exactly one is given, by the end of the object's path."""
COMPANIONS: Mapping[str, Mapping[str, Any]] = {
    "chat": {"model": "small", "prompt": "hi"},
    "embed": {"texts": ["a"]},
    "exec": {"command": ["true"]},
    "read": {"paths": ["a"]},
}
"""What an object of this name needs to make sense."""


def _label(length: int) -> str:
    return "a" * length


LONGEST: Mapping[str, Callable[[int], str]] = {
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": _label,
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": lambda length: ("a" * 62 + ".") * (length // 63) + "a" * (length % 63 or 1),
    r"^(0(\.[0-9]{1,3})?|1(\.[0-9]{1,3})?|2(\.0{1,3})?)$": lambda length: "0." + "1" * (length - 2),
    r"^[^<>\n]+ <[^<>\s]+>$": lambda length: "a" * (length - 4) + " <b>",
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-zA-Z0-9/_.-]+$": lambda length: "a/" + "b" * (length - 2),
    r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$": lambda length: "1".rjust(length, "0"),
    r"^/(data|srv|mnt/[^/:]+)(/[^/:]+)*$": lambda length: "/data/" + "a" * (length - 6),
    r"^https?://": lambda length: "http://" + "a" * (length - 7),
    r"^[0-9]{1,9}(\.[0-9]{1,9})?$": lambda length: "1" * 9 + "." + "1" * (length - 10),
    r"^[A-Z]{3}$": lambda length: "EUR",
    r"^/": lambda length: "/" + "a" * (length - 1),
}
"""A text of just this length that fits the pattern, where a row of one letter does not."""


class Edge(Struct, frozen=True):
    """An object that stands at one bound of one field, or just beyond it."""

    kind: str
    path: str
    what: str
    body: dict[str, Any]
    valid: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.path} {self.what}"


def edges(plural: str) -> Iterator[Edge]:
    """All of a kind."""
    root = schema(load(plural), "spec")
    for path, node, place in _places(root, "spec", lambda value: value):
        for what, value, valid in _at_bounds(node, path):
            if not (path == "spec.softDeadlineSeconds" and what == "maximum"):  # the active deadline must be later
                yield Edge(kind=KINDS[plural], path=path, what=what, body=body(plural, place(value)), valid=valid)


def body(plural: str, spec: Any, name: str = "case") -> dict[str, Any]:
    """The object around a spec."""
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": KINDS[plural], "metadata": {"name": name}, "spec": spec}


def _places(node: dict[str, Any], path: str, place: Callable[[Any], Any]) -> Iterator[tuple[str, dict[str, Any], Callable[[Any], Any]]]:
    """Each node with what puts a value of it into a small object."""
    yield path, node, place
    for name, child in node.get("properties", {}).items():

        def within(value: Any, name: str = name) -> Any:
            return place(smallest(node, path, given={name: value}))

        yield from _places(child, f"{path}.{name}", within)
    if "items" in node:
        yield from _places(node["items"], path + "[]", lambda value: place([value]))
    if isinstance(node.get("additionalProperties"), dict):
        yield from _places(node["additionalProperties"], path + "{}", lambda value: place({"key": value}))


def smallest(node: dict[str, Any], path: str, given: Mapping[str, Any] | None = None) -> Any:
    """The least that a node takes, with `given` fields set."""
    if "enum" in node:
        return node["enum"][0]
    if node.get(INT_OR_STRING):
        return node.get("minimum", 0)
    match node["type"]:
        case "string":
            return text(node, max(node.get("minLength", 0), 1) if "pattern" not in node else _shortest(node))
        case "integer":
            return max(node.get("minimum", 0), min(0, node.get("maximum", 0)))
        case "boolean":
            return False
        case "array":
            return [smallest(node["items"], path + "[]") for _ in range(node.get("minItems", 0))]
    return _smallest_object(node, path, given or {})


def _smallest_object(node: dict[str, Any], path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    properties = node.get("properties", {})
    made = {name: smallest(properties[name], f"{path}.{name}") for name in node.get("required", ()) if name not in given}
    for ending, names in CHOICES.items():
        if path.endswith(ending) and set(names) & properties.keys() and not set(names) & given.keys():
            made[names[0]] = smallest(properties[names[0]], f"{path}.{names[0]}")
    companions = COMPANIONS.get(path.rpartition(".")[2], {})
    made |= {name: value for name, value in companions.items() if name in properties and name not in given}
    if path.endswith("chat") and "models" in given and given["models"]:
        made.pop("model", None)
    if path == "spec" and "local" in given:
        made |= {"client": "local"}
    if path.endswith("steps[]") and given.get("parallelism", 1) != 1:
        made["forEach"] = "[1]"
    if path == "spec" and "softDeadlineSeconds" in given:
        made["activeDeadlineSeconds"] = properties["activeDeadlineSeconds"]["maximum"]
    return {**made, **given}


def _shortest(node: dict[str, Any]) -> int:
    pattern = re.compile(node["pattern"])
    return next(length for length in range(node["maxLength"] + 1) if pattern.search(text(node, length)))


def text(node: dict[str, Any], length: int) -> str:
    """A text of a length that fits the node's pattern, as far as one of that length can."""
    if (exact := LONGEST.get(node.get("pattern", ""))) is not None:
        return exact(length)
    return "a" * length


def _at_bounds(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any, bool]]:
    """Values at a node's bounds and around them; whether each is valid."""
    if "enum" in node:
        yield from ((f"is-{value}", value, True) for value in node["enum"])
        yield "is-no-member", "No such member", False
        return
    if node.get("type") == "integer" or node.get(INT_OR_STRING):
        yield from _numbers(node)
    if node.get("type") == "string":
        yield from _strings(node)
    if "maxItems" in node:
        yield from _lists(node, path)
    if "maxProperties" in node:
        yield from _maps(node, path)
    if node.get("type") == "object" and "properties" in node:
        yield "unknown-field", smallest(node, path) | {"noSuchField": 1}, False


def _numbers(node: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    for bound, beyond in (("minimum", -1), ("maximum", 1)):
        if bound in node:
            yield bound, node[bound], True
            yield f"beyond-{bound}", node[bound] + beyond, False


def _strings(node: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    yield "a-number", 7, False
    if "maxLength" in node:
        longest, longer = text(node, node["maxLength"]), text(node, node["maxLength"] + 1)
        yield "longest", longest, True
        if longer != longest:
            yield "too-long", longer, False
    if "pattern" in node:
        yield "empty", "", bool(re.search(node["pattern"], ""))
        if not re.search(node["pattern"], UNICODE[:3]):
            yield "other-letters", UNICODE[:3], False
        return
    if node.get("minLength"):
        yield "too-short", text(node, node["minLength"] - 1), False
    if "maxLength" in node:
        yield "unicode", UNICODE[: node["maxLength"]], True
        yield "longest-unicode", "\U0001f680" * node["maxLength"], True


def _lists(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any, bool]]:
    most = node["maxItems"]
    yield "most-items", [_nth(node["items"], path + "[]", number) for number in range(most)], True
    yield "too-many-items", [_nth(node["items"], path + "[]", number) for number in range(most + 1)], False
    if node.get("minItems"):
        yield "too-few-items", [], False


def _maps(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any, bool]]:
    child = node.get("additionalProperties")
    value = smallest(child, path + "{}") if isinstance(child, dict) else 1
    for what, size, valid in (("most-keys", node["maxProperties"], True), ("too-many-keys", node["maxProperties"] + 1, False)):
        yield what, {f"key-{number}": value for number in range(size)}, valid


def _nth(node: dict[str, Any], path: str, number: int) -> Any:
    """A list's item that differs from the others in what must differ."""
    if node.get("type") == "object":
        made = smallest(node, path)
        if "name" in made:
            made["name"] = f"n{number}"
        if "mountPath" in made:
            made["mountPath"] = f"/data/n{number}"
        return made
    return f"n{number}" if node.get("type") == "string" and "enum" not in node else smallest(node, path)


# ---- random ones


@cache
def specs(plural: str) -> st.SearchStrategy[dict[str, Any]]:
    """Whole specs of a kind."""
    root = schema(load(plural), "spec")
    return _values(root, "spec").map(deepcopy)


def _values(node: dict[str, Any], path: str) -> st.SearchStrategy[Any]:
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node.get(INT_OR_STRING):
        # A number for the time-outs' sake: a text there is a template.
        return st.integers(max(1, node["minimum"]), node["maximum"]) if "pattern" not in node else st.sampled_from((1, "1", "500m", "1Gi"))
    match node["type"]:
        case "string":
            return _texts(node)
        case "integer":
            least, most = node.get("minimum", -(2**31)), node.get("maximum", 2**31)
            return st.sampled_from((least, most)) | st.integers(least, most)
        case "boolean":
            return st.booleans()
        case "array":
            return _items(node, path)
    return _objects(node, path)


def _texts(node: dict[str, Any]) -> st.SearchStrategy[str]:
    least, most = node.get("minLength", 0), min(node.get("maxLength", LONGEST_TEXT), LONGEST_TEXT)
    if "pattern" in node:
        fits = st.sampled_from((text(node, _shortest(node)), text(node, node["maxLength"])))
        return fits | st.from_regex(re.compile(node["pattern"], re.ASCII)).filter(
            lambda made: least <= len(made) <= node["maxLength"] and "\n" not in made
        )
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0{")
    return st.text(letters, min_size=least, max_size=most) | st.just(UNICODE[:most]) | st.just("a" * most)


def _items(node: dict[str, Any], path: str) -> st.SearchStrategy[list[Any]]:
    least = node.get("minItems", 0)
    few = st.lists(_values(node["items"], path + "[]"), min_size=least, max_size=least + 2)
    return few.map(_named_apart)


def _named_apart(items: list[Any]) -> list[Any]:
    """Items with the names that they must not share."""
    made: list[Any] = []
    for number, item in enumerate(items):
        if isinstance(item, dict) and "name" in item and number:
            item = item | {"name": f"n{number}"}
        if item not in made:
            made.append(item)
    return made


def _objects(node: dict[str, Any], path: str) -> st.SearchStrategy[dict[str, Any]]:
    properties = node.get("properties")
    if properties is None:
        child = node.get("additionalProperties")
        values = _values(child, path + "{}") if isinstance(child, dict) else st.none() | st.integers() | st.text(max_size=20)
        keys = st.from_regex(r"\A[a-z]([-a-z]{0,60}[a-z])?\Z")
        long = values.map(lambda value: {f"key-{number}": value for number in range(node.get("maxProperties", 64))})
        return st.dictionaries(keys, values, max_size=3) | long
    required = {name: _values(properties[name], f"{path}.{name}") for name in node.get("required", ())}
    choice = next((names for ending, names in CHOICES.items() if path.endswith(ending) and set(names) & properties.keys()), ())
    optional = {name: _values(child, f"{path}.{name}") for name, child in properties.items() if name not in required and name not in choice}
    made = st.fixed_dictionaries(required, optional=optional)
    if choice:
        one = st.sampled_from([name for name in choice if name in properties]).flatmap(
            lambda name: st.fixed_dictionaries({name: _values(properties[name], f"{path}.{name}")})
        )
        made = st.tuples(made, one).map(lambda both: both[0] | both[1])
    return made
