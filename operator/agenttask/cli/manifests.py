"""Reading YAML files as kubectl does: several documents a file, a key that stands twice is an error, a date is text."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct


class InvalidFile(Exception):
    """A file cannot be used; each problem is a line for a person: where, and what."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Manifest(Struct, frozen=True, kw_only=True):
    """One object of a file; `document` counts from 1."""

    file: str
    document: int
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """The kind, or nothing."""
        return str(self.body.get("kind", ""))

    @property
    def name(self) -> str:
        """`metadata.name`, or nothing."""
        return self._metadata("name")

    @property
    def generate_name(self) -> str:
        """`metadata.generateName`, or nothing: `kubectl create` has the API server make a name that begins so."""
        return self._metadata("generateName")

    def _metadata(self, field: str) -> str:
        metadata = self.body.get("metadata")
        return str(metadata.get(field) or "") if isinstance(metadata, dict) else ""

    def at(self, field: str, problem: str) -> str:
        """A problem of this object as a line."""
        name = self.name or self.generate_name
        what = f" ({self.kind} {name})" if name else f" ({self.kind})" if self.kind else ""
        return f"{self.file}: document {self.document}{what}: {f'{field}: ' if field else ''}{problem}"


class _Loader(yaml.SafeLoader):
    """The safe loader, with repeated keys refused; it knows no dates."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """The mapping, each key once."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_files(paths: Sequence[Path]) -> list[Manifest]:
    """Every object of the files, in their order; a List is its items.

    Raises:
        InvalidFile: a file cannot be read, is no YAML, or holds something else than objects.
    """
    found: list[Manifest] = []
    problems: list[str] = []
    for path in paths:
        try:
            documents = list(yaml.load_all(path.read_text(), _Loader))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            problems.append(f"{path}: is not UTF-8: byte at offset {error.start}")
        except yaml.YAMLError as error:
            problems.append(f"{path}: {_yaml_problem(error)}")
        except RecursionError:
            problems.append(f"{path}: is nested too deeply to be read")
        else:
            for number, document in enumerate(documents, 1):
                for body in _objects(document):
                    if isinstance(body, dict):
                        found.append(Manifest(file=str(path), document=number, body=body))
                    else:
                        problems.append(f"{path}: document {number}: is no object but {type(body).__name__}")
    if problems:
        raise InvalidFile(problems)
    return found


def _objects(document: Any) -> list[Any]:
    if document is None:
        return []
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
        return list(document["items"])
    return [document]


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem or error.context}"
    return str(error)
