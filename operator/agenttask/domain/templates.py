"""Templates: Jinja2's syntax, a small language (domain/language.py), checked alike by controller, CLI and runner.

A template is only parsed here, never compiled: Jinja2 folds constants while it compiles, and `{{ 'a' * 300000000 }}`
would cost the controller 0.9 GB.
"""

from typing import Final

import jinja2
from jinja2 import nodes

from agenttask.api.errors import InvalidTemplate
from agenttask.domain.language import Scope, Walk, at_line, dash_hint
from agenttask.domain.nearest import quoted

MAX_SOURCE: Final = 16384
LITERAL_FIELDS: Final = frozenset({"responseSchema", "jsonSchema", "stop", "author"})
"""Fields of the built-in kinds that are taken as they are, whatever marks they hold."""
_MARKS: Final = ("{{", "{%", "{#")


def is_template(source: str) -> bool:
    """Whether there is anything to render; most strings are plain text."""
    return any(mark in source for mark in _MARKS)


def check(source: str, *, field: str, scope: Scope) -> None:
    """Refuse a template that leaves the language, or that names a param or step it cannot see.

    Raises:
        InvalidTemplate: with the field's path, the line where there are several, and the remedy.
    """
    if is_template(source):
        parse(source, field=field, scope=scope)


def parse_expression(source: str, *, field: str, scope: Scope | None = None) -> nodes.Template:
    """The tree of a template that is exactly one `{{ expression }}`; spaces around it do not count.

    Raises:
        InvalidTemplate: as `parse`, or there is more or less than one expression.
    """
    tree = parse(source.strip(), field=field, scope=scope)
    match tree.body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
            return tree
        case _:
            raise InvalidTemplate(
                field, f"is one expression and nothing around it, as in `{{{{ steps.plan.json }}}}`, not {quoted(source)}"
            )


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
