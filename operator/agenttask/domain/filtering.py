"""What the allowed filters do: Jinja2's own meaning, with the size of the result counted before it is built.

Where Jinja2 reaches for a Python attribute (`map`, `selectattr`, `join`) these look only into mappings and lists.
"""

import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jinja2 import Undefined

from agenttask.api.errors import StepFailed
from agenttask.domain.bounded import Budget, kind, lookup, missing, present

_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "equalto": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": lambda value, container: value in container,
}
_IS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "none": lambda value: value is None,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
}
_NO_DEFAULT: Final = object()
_TRUNCATE_LEEWAY: Final = 5
"""Jinja2's: so few characters over the length stay."""

Absent = Callable[[str], Undefined]
"""Makes the undefined value whose use fails with this message."""


class Filters:
    """The filters of one rendering; they share its budget."""

    def __init__(self, budget: Budget, absent: Absent) -> None:
        self._budget = budget
        self._absent = absent

    def table(self) -> dict[str, Callable[..., Any]]:
        """By the name that a template uses."""
        return {
            "default": self.default,
            "first": lambda value: self._end(value, 0),
            "last": lambda value: self._end(value, -1),
            "length": self.length,
            "join": self.join,
            "map": self.map,
            "selectattr": lambda value, *test, **named: self.select(value, *test, keep=True, **named),
            "rejectattr": lambda value, *test, **named: self.select(value, *test, keep=False, **named),
            "tojson": self._budget.json,
            "trim": self.trim,
            "upper": lambda value: self._letters(value, str.upper),
            "lower": lambda value: self._letters(value, str.lower),
            "truncate": self.truncate,
            "indent": self.indent,
        }

    def concat(self, values: Sequence[Any]) -> str:
        """The `~` operator over all its operands at once."""
        return self._joined([self._budget.text(value) for value in values], "")

    def item(self, value: Any, key: Any, path: str) -> Any:
        """`value.key` and `value[key]`."""
        found, result = lookup(present(value), present(key))
        return result if found else self._absent(missing(value, key, path))

    def default(self, value: Any, default_value: Any = "", boolean: bool = False) -> Any:  # noqa: FBT001, FBT002 - Jinja2's own signature
        """Another value where this one is missing, or also where it is empty or false."""
        return default_value if isinstance(value, Undefined) or (boolean and not value) else value

    def length(self, value: Any) -> int:
        """How many items or characters."""
        if not isinstance(present(value), str | Mapping | Sequence):
            raise StepFailed(f"only a string, a list or a mapping has a length, not {kind(value)}")
        return len(value)

    def join(self, value: Any, d: str = "", attribute: str | None = None) -> str:
        """One string of many."""
        items = [self._attribute(item, attribute) for item in self._budget.items(value)] if attribute else self._budget.items(value)
        return self._joined([self._budget.text(item) for item in items], d)

    def map(self, value: Any, *, attribute: str, default: Any = _NO_DEFAULT) -> list[Any]:
        """One attribute of every item."""
        found = [self._attribute(item, attribute) for item in self._budget.items(value)]
        return found if default is _NO_DEFAULT else [default if isinstance(item, Undefined) else item for item in found]

    def select(self, value: Any, attribute: str, test: str | None = None, argument: Any = None, *, keep: bool) -> list[Any]:
        """The items whose attribute passes (or does not pass) the test; without one, whether it is true."""
        return [item for item in self._budget.items(value) if self._passes(self._attribute(item, attribute), test, argument) is keep]

    def trim(self, value: Any, chars: str | None = None) -> str:
        """Without spaces, or the given characters, at both ends."""
        return self._budget.text(value).strip(chars)

    def truncate(self, value: Any, length: int = 255, killwords: bool = False, end: str = "...") -> str:  # noqa: FBT001, FBT002 - Jinja2's own signature
        """The beginning, at a word's end unless `killwords`."""
        text = self._budget.text(value)
        if len(text) <= length + _TRUNCATE_LEEWAY:
            return text
        cut = text[: length - len(end)]
        return cut + end if killwords else cut.rsplit(" ", 1)[0] + end

    def indent(self, value: Any, width: int = 4, first: bool = False, blank: bool = False) -> str:  # noqa: FBT001, FBT002 - Jinja2's own signature
        """Every line but the first (unless `first`) and the empty ones (unless `blank`) behind so many spaces."""
        text = self._budget.text(value)
        margin = " " * width
        self._budget.build(len(text) + width * (text.count("\n") + 1))
        head, line_end, rest = text.partition("\n")
        rest = textwrap.indent(rest, margin, (lambda _: True) if blank else None)
        return (margin if first else "") + head + line_end + rest

    def _joined(self, texts: Sequence[str], separator: str) -> str:
        self._budget.build(sum(map(len, texts)) + len(separator) * max(0, len(texts) - 1))
        return separator.join(texts)

    def _letters(self, value: Any, change: Callable[[str], str]) -> str:
        text = self._budget.text(value)
        self._budget.build(len(text))
        return change(text)

    def _end(self, value: Any, index: int) -> Any:
        if not isinstance(present(value), str | Mapping | Sequence):
            raise StepFailed(f"only a string, a list or a mapping has a first and a last item, not {kind(value)}")
        if not value:
            return self._absent(f"{kind(value)} is empty, it has no {'first' if index == 0 else 'last'} item")
        if isinstance(value, Mapping):
            return self._budget.items(value)[index]
        return value[index]

    def _attribute(self, value: Any, path: str) -> Any:
        """The value behind a dotted path; a missing part makes the whole missing."""
        for part in path.split("."):
            key = int(part) if part.isascii() and part.isdigit() else part
            found, inner = lookup(value, key)
            if not found:
                return self._absent(missing(value, key, "an item"))
            value = inner
        return value

    def _passes(self, value: Any, test: str | None, argument: Any) -> bool:
        if test in ("defined", "undefined"):
            return isinstance(value, Undefined) is (test == "undefined")
        self._budget.weigh(present(value))
        if test is None:
            return bool(value)
        return bool(_COMPARE[test](value, argument)) if test in _COMPARE else _IS[test](value)
