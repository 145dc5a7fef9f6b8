"""Rendering: a template and its values to text, within bounds.

The parsed tree is rewritten before Jinja2 compiles it: item access, `~`, loops and comparisons become filters that
count their work first (domain/bounded.py), and the environment has no other filter, test or global. A string prints as
it is and any other value as its JSON, so that a list in a prompt or a file is JSON and not Python.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from agenttask.api.constants import MAX_RENDERED_BYTES
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.api.report import shorten
from agenttask.domain import language, templates
from agenttask.domain.bounded import Budget, present
from agenttask.domain.filtering import Filters

_SHOWN_PATH: Final = 120
_NAMES: Final = (*language.NAMES, *language.SOMETIMES)
MAX_TREE_DEPTH: Final = 64
"""Nested lists and mappings of one step's config."""


def render(source: str, values: Mapping[str, Any], *, field: str = "", limit: int = MAX_RENDERED_BYTES) -> str:
    """The text of a template; a string without template marks is itself. `values` has the names of `language.NAMES` and `SOMETIMES`.

    Raises:
        InvalidTemplate: the template leaves the language.
        StepFailed: a value is missing, or is not of the type that the template needs.
        OutputTooLarge: the text has more than `limit` bytes, or building it takes too much work.
    """
    if not templates.is_template(source):
        return source
    tree = templates.parse(source, field=field)
    budget = Budget(limit)
    with _told(field):
        return _generate(tree, values, budget, budget.text)


def evaluate(source: str, values: Mapping[str, Any], *, field: str = "", limit: int = MAX_RENDERED_BYTES) -> Any:
    """The native value of one `{{ expression }}`: a list stays a list, a boolean a boolean.

    Raises:
        InvalidTemplate: it is not one expression, or leaves the language.
        StepFailed, OutputTooLarge: as `render`; the limit is for the value's JSON.
    """
    tree = templates.parse_expression(source, field=field)
    budget = Budget(limit)
    found: list[Any] = []

    def keep(value: Any) -> str:
        size = budget.weigh(present(value))
        if size > limit:
            raise OutputTooLarge(f"the value is larger than {limit} characters of JSON; cut it down")
        found.append(value)
        return ""

    with _told(field):
        _generate(tree, values, budget, keep)
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
) -> Any:
    """A step's config with every string in it rendered; keys of mappings stay as they are, and so does what is under a `literal` key.

    `limit` is for all of it.

    Raises:
        InvalidTemplate, StepFailed, OutputTooLarge: as `render`; the message begins with the path of the string.
    """
    return _Tree(values, limit, literal).render(value, field, 0)


class _Tree:
    """One walk through a config, with the bytes that are left for it."""

    def __init__(self, values: Mapping[str, Any], limit: int, literal: Collection[str]) -> None:
        self._values = values
        self._left = limit
        self._literal = literal

    def render(self, value: Any, path: str, depth: int) -> Any:
        if depth > MAX_TREE_DEPTH:
            raise StepFailed(f"{shorten(path, _SHOWN_PATH)}: nested more than {MAX_TREE_DEPTH} deep")
        if isinstance(value, str):
            if not templates.is_template(value):
                return value
            text = render(value, self._values, field=path, limit=self._left)
            self._left -= len(text.encode())
            return text
        if isinstance(value, Mapping):
            return {
                key: item if key in self._literal else self.render(item, f"{path}.{key}" if path else str(key), depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.render(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return value


def _generate(tree: nodes.Template, values: Mapping[str, Any], budget: Budget, written: Callable[[Any], str]) -> str:
    """Compile and run, stopping at the limit; `written` makes text of what an expression gives."""
    environment = _environment(budget, written)
    _Bounding().visit(tree)
    tree.set_environment(environment)
    parts: list[str] = []
    size = 0
    for part in environment.from_string(tree).generate({name: values[name] for name in _NAMES if name in values}):
        size += len(part.encode())
        if size > budget.limit:
            raise OutputTooLarge(f"the template renders to more than {budget.limit} bytes; cut its values down")
        parts.append(part)
    return "".join(parts)


def _environment(budget: Budget, written: Callable[[Any], str]) -> SandboxedEnvironment:
    """An environment that has our filters and nothing else; one a rendering, as its filters hold the budget."""

    @jinja2.pass_context  # a finalizer with a context keeps Jinja2 from folding constant output while it compiles
    def finalize(_: Context, value: Any) -> str:
        return written(value)

    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        optimized=False,
        finalize=finalize,
        keep_trailing_newline=True,
        cache_size=0,
    )

    def weighed(value: Any) -> Any:
        budget.weigh(present(value))
        return value

    filters = Filters(budget, lambda hint: environment.undefined(hint=hint))
    own: dict[str, Callable[..., Any]] = {_ITEM: filters.item, _CONCAT: filters.concat, _EACH: budget.items, _WEIGHED: weighed}
    environment.filters = filters.table() | own
    environment.tests = {}
    environment.globals = {}
    return environment


# Names that no template can write.
_ITEM: Final = "[item]"
_CONCAT: Final = "[concat]"
_EACH: Final = "[each]"
_WEIGHED: Final = "[weighed]"


class _Bounding(NodeTransformer):
    """Puts our counting filters where Jinja2 would build or visit by itself; children first."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja2 finds the method by the node's name
        self.generic_visit(node)
        return _call(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _call(_EACH, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _call(_WEIGHED, node.expr)
        for operand in node.ops:
            operand.expr = _call(_WEIGHED, operand.expr)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802
        return self._item(node, nodes.Const(node.attr, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        key: nodes.Expr = self.visit(node.arg)
        return self._item(node, key)

    def _item(self, node: nodes.Getattr | nodes.Getitem, key: nodes.Expr) -> nodes.Expr:
        if isinstance(node.node, nodes.Name) and node.node.name == "loop" and isinstance(key, nodes.Const):
            return nodes.Getattr(node.node, key.value, "load", lineno=node.lineno)  # Jinja2's own object, and not a value
        path = nodes.Const(shorten(_path(node.node), _SHOWN_PATH), lineno=node.lineno)
        owner: nodes.Expr = self.visit(node.node)
        return _call(_ITEM, owner, key, path)


def _call(name: str, value: nodes.Node, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=value.lineno)


def _path(node: nodes.Expr) -> str:
    """How the template writes this expression, for messages."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return f"{_path(node.node)}.{node.attr}"
        case nodes.Getitem(arg=nodes.Const(value=key)):
            return f"{_path(node.node)}[{shorten(repr(key), 40)}]"
        case nodes.Getitem():
            return f"{_path(node.node)}[...]"
        case _:
            return "the value"
