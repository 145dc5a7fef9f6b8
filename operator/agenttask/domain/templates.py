"""Templates: Jinja2's syntax, a small language (domain/language.py), checked alike by controller, CLI and runner.

A template is only parsed here, never compiled: Jinja2 folds constants while it compiles, and `{{ 'a' * 300000000 }}`
would cost the controller 0.9 GB.
"""

from collections.abc import Collection
from typing import Final

import jinja2
from jinja2 import nodes

from agenttask.api.errors import InvalidTemplate
from agenttask.domain.language import Scope, Walk, at_line, dash_hint

MAX_SOURCE: Final = 16384
_MARKS: Final = ("{{", "{%", "{#")


def is_template(source: str) -> bool:
    """Whether there is anything to render; most strings are plain text."""
    return any(mark in source for mark in _MARKS)


def check(source: str, *, field: str, params: Collection[str], steps: Collection[str], later: Collection[str] = ()) -> None:
    """Refuse a template that leaves the language, or that names a param or step it cannot see.

    Raises:
        InvalidTemplate: with the field's path, the line where there are several, and the remedy.
    """
    if is_template(source):
        parse(source, field=field, scope=Scope(params=params, steps=steps, later=later))


def parse(source: str, *, field: str, scope: Scope | None = None) -> nodes.Template:
    """The tree of a template that keeps to the language; without a scope, param and step names are not looked at.

    Raises:
        InvalidTemplate: it does not parse, or leaves the language.
    """
    if len(source) > MAX_SOURCE:
        raise InvalidTemplate(
            field, f"a template has at most {MAX_SOURCE} characters, not {len(source)}; move long text into an input file"
        )
    try:
        tree = jinja2.Environment(keep_trailing_newline=True).parse(source)  # noqa: S701 - plain text, never HTML
    except jinja2.TemplateSyntaxError as error:
        raise InvalidTemplate(field, at_line(source, error.lineno, f"{error.message}{dash_hint(source)}")) from error
    except RecursionError as error:
        raise InvalidTemplate(field, "the template is nested too deeply") from error
    except (ValueError, Warning) as error:  # a number of more digits than Python reads; a warning where those are errors
        raise InvalidTemplate(field, f"a literal cannot be read: {error}") from error
    Walk(source, field, scope).visit(tree)
    return tree
