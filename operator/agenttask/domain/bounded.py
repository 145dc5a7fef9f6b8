"""Work that a template may do, counted before it is done: characters built, items visited.

Jinja2's sandbox guards Python's attributes, not memory and time. Every operator and filter that builds or visits
something goes through one `Budget` of the rendering, so that neither a 1 MiB value joined with itself nor two nested
loops over long lists can cost the runner more than a bounded amount.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jinja2 import Undefined

from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.domain.nearest import listed, quoted

MAX_ITERATIONS: Final = 100_000
WORK_FACTOR: Final = 64
"""All intermediate values together, in multiples of what the rendering may return."""
_SCALAR_COST: Final = 8


class Budget:
    """What one rendering has left."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._work = limit * WORK_FACTOR
        self._iterations = MAX_ITERATIONS

    def build(self, characters: int) -> None:
        """Count a string that is about to be built.

        Raises:
            OutputTooLarge: it, or all of them together, would be too large.
        """
        if characters > self.limit:
            raise OutputTooLarge(f"the template builds a value of {characters} characters, at most {self.limit} are allowed; cut it down")
        self.work(characters)

    def work(self, characters: int) -> None:
        """Count characters that are about to be looked at or copied."""
        self._work -= characters
        if self._work < 0:
            raise OutputTooLarge(f"the template works on more than {WORK_FACTOR} x {self.limit} characters in all; do the work in a step")

    def visit(self, items: int) -> None:
        """Count list items that are about to be visited."""
        self._iterations -= items
        if self._iterations < 0:
            raise OutputTooLarge(f"the loops of the template visit more than {MAX_ITERATIONS} items in all; do the work in a step")

    def weigh(self, value: Any) -> int:
        """Count a value that is about to be compared or written out; returns the fewest characters that its JSON can have."""
        stack, least = [value], 0
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                self.work(len(item) + _SCALAR_COST)
                least += len(item) + 2
            elif isinstance(item, Mapping | Sequence):
                self.work(_SCALAR_COST * (len(item) + 1))
                least += 2
                stack.extend(item)
                if isinstance(item, Mapping):
                    stack.extend(item.values())
            else:
                least += 1
        return least

    def text(self, value: Any) -> str:
        """How a value is written: a string as it is, anything else as its JSON."""
        if isinstance(value, str):
            self.build(len(value))
            return str(value)
        return self.json(value)

    def json(self, value: Any, indent: int | None = None) -> str:
        """A value as JSON, without Jinja2's escapes for HTML."""
        least = self.weigh(present(value))
        if least > self.limit:
            self.build(least)
        encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, default=_plain)
        parts: list[str] = []
        size = 0
        for part in [encoder.encode(value)] if indent is None else encoder.iterencode(value):
            size += len(part)
            if size > self.limit:
                break
            parts.append(part)
        self.build(size)
        return "".join(parts)

    def items(self, value: Any) -> Sequence[Any]:
        """What a loop or a list filter visits: a list's items, a mapping's keys."""
        present(value)
        if isinstance(value, str) or not isinstance(value, Mapping | Sequence):
            raise StepFailed(f"only a list or a mapping can be gone through, not {kind(value)}")
        self.visit(len(value))
        return list(value) if isinstance(value, Mapping) else value


def present(value: Any) -> Any:
    """The value itself.

    Raises:
        jinja2.UndefinedError: it is missing; the message says what and where.
    """
    if isinstance(value, Undefined):
        str(value)  # StrictUndefined raises with the hint of its making
    return value


def kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def lookup(value: Any, key: Any) -> tuple[bool, Any]:
    """`value[key]` in mappings, lists and strings only: no attribute of Python is ever reached."""
    if isinstance(value, Mapping) and isinstance(key, str | int) and key in value:
        return True, value[key]
    inside = isinstance(value, Sequence) and isinstance(key, int) and not isinstance(key, bool) and -len(value) <= key < len(value)
    return (True, value[key]) if inside else (False, None)


def missing(value: Any, key: Any, path: str) -> str:
    """The message for a value that is not there: what is missing, and what there is."""
    match value:
        case Mapping():
            return f"{path} has no {quoted(key)}; it has: {listed([str(name) for name in value])}"
        case str() | Sequence() if isinstance(key, int):
            return f"{path} has no item {key}; it has {len(value)}"
        case _:
            return f"{path} is {kind(value)}, it has no {quoted(key)}"


def _plain(value: Any) -> Any:
    """What the JSON encoder does not know by itself."""
    if isinstance(present(value), Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{kind(value)} cannot be written as JSON")
