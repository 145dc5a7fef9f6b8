"""Rendering: a template and its values to text, or one expression to its value, within bounds.

A string prints as it is and any other value as its JSON, so that a list in a prompt or a file is JSON and not Python.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import jinja2

from agenttask.api.constants import MAX_RENDERED_BYTES
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.api.report import shorten
from agenttask.domain import language, templates
from agenttask.domain.bounded import Budget, present
from agenttask.domain.compiling import Programs, Written
from agenttask.domain.utf8 import utf8_length

_SHOWN_PATH: Final = 120
_NAMES: Final = (*language.NAMES, *language.SOMETIMES)
MAX_TREE_DEPTH: Final = 64
"""Nested lists and mappings of one step's config."""


def render(
    source: str, values: Mapping[str, Any], *, field: str = "", limit: int = MAX_RENDERED_BYTES, programs: Programs | None = None
) -> str:
    """The text of a template; a string without template marks is itself. `values` has the names of `language.NAMES` and `SOMETIMES`.

    `programs` keeps what was compiled, for values that come after these.

    Raises:
        InvalidTemplate: the template leaves the language.
        StepFailed: a value is missing, or is not of the type that the template needs.
        OutputTooLarge: the text has more than `limit` bytes, or building it takes too much work.
    """
    if not templates.is_template(source):
        return source
    budget = Budget(limit)
    return _generate(source, field, values, budget, budget.text, programs)


def evaluate(source: str, values: Mapping[str, Any], *, field: str = "", limit: int = MAX_RENDERED_BYTES) -> Any:
    """The native value of one `{{ expression }}`: a list stays a list, a boolean a boolean.

    Raises:
        InvalidTemplate: it is not one expression, or leaves the language.
        StepFailed, OutputTooLarge: as `render`; the limit is for the value's JSON.
    """
    source = source.strip()
    templates.parse_expression(source, field=field)
    budget = Budget(limit)
    found: list[Any] = []

    def keep(value: Any) -> str:
        size = budget.weigh(present(value))
        if size > limit:
            raise OutputTooLarge(f"the value is larger than {limit} characters of JSON; cut it down")
        found.append(value)
        return ""

    _generate(source, field, values, budget, keep, None)
    return found[0]


@contextmanager
def _told(field: str) -> Iterator[None]:
    """What goes wrong while a template runs, as errors of ours that begin with the field's path."""
    where = f"{field}: " if field else ""
    try:
        yield
    except (StepFailed, OutputTooLarge) as error:
        raise type(error)(f"{where}{error}") from error
    except jinja2.UndefinedError as error:
        raise StepFailed(f"{where}{error.message}") from error
    except RecursionError as error:
        raise StepFailed(f"{where}a value is nested too deeply to be written") from error
    except (TypeError, ValueError, jinja2.TemplateError) as error:
        raise StepFailed(f"{where}the template cannot be rendered with these values: {shorten(str(error), 400)}") from error


def render_tree(
    value: Any,
    values: Mapping[str, Any],
    *,
    field: str = "",
    limit: int = MAX_RENDERED_BYTES,
    literal: Collection[str] = (),
    programs: Programs | None = None,
) -> Any:
    """A step's config with every string in it rendered; keys of mappings stay as they are, and so does what is under a `literal` key.

    `limit` is for all of it.

    Raises:
        InvalidTemplate, StepFailed, OutputTooLarge: as `render`; the message begins with the path of the string.
    """
    return _Tree(values, limit, literal, programs or Programs()).render(value, field, 0)


class _Tree:
    """One walk through a config, with the bytes that are left for it."""

    def __init__(self, values: Mapping[str, Any], limit: int, literal: Collection[str], programs: Programs) -> None:
        self._values = values
        self._left = limit
        self._literal = literal
        self._programs = programs

    def render(self, value: Any, path: str, depth: int) -> Any:
        if depth > MAX_TREE_DEPTH:
            raise StepFailed(f"{shorten(path, _SHOWN_PATH)}: nested more than {MAX_TREE_DEPTH} deep")
        if isinstance(value, str):
            if not templates.is_template(value):
                return value
            text = render(value, self._values, field=path, limit=self._left, programs=self._programs)
            self._left -= utf8_length(text)
            return text
        if isinstance(value, Mapping):
            return {
                key: item if key in self._literal else self.render(item, f"{path}.{key}" if path else str(key), depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.render(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return value


def _generate(source: str, field: str, values: Mapping[str, Any], budget: Budget, written: Written, programs: Programs | None) -> str:
    """Run the template's program, stopping at the limit."""
    with _told(field):
        program = (programs or Programs()).of(source, field)
        parts: list[str] = []
        size = 0
        for part in program.run({name: values[name] for name in _NAMES if name in values}, budget, written):
            size += utf8_length(part)
            if size > budget.limit:
                raise OutputTooLarge(f"the template renders to more than {budget.limit} bytes; cut its values down")
            parts.append(part)
        return "".join(parts)
