"""Compiling: a template's tree to Python code that counts its work.

The parsed tree is rewritten before Jinja2 compiles it: item access, `~`, loops and comparisons become filters that
count their work first (domain/bounded.py), and the environment has no other filter, test or global. Compiling takes most
of a rendering's time; the code does not depend on values, so a step that renders its templates for each item keeps it.
"""

from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from agenttask.api.report import shorten
from agenttask.domain import templates
from agenttask.domain.bounded import Budget, present
from agenttask.domain.filtering import Filters

_SHOWN_PATH: Final = 120
Written = Callable[[Any], str]
"""Makes text of what an expression gives."""


class Program:
    """One template's code."""

    def __init__(self, code: CodeType) -> None:
        self._code = code

    def run(self, values: Mapping[str, Any], budget: Budget, written: Written) -> Iterator[str]:
        """The text piece by piece; all that it takes is counted in `budget`."""
        return jinja2.Template.from_code(_environment(budget, written), self._code, {}).generate(values)


class Programs:
    """The programs of one step's templates."""

    def __init__(self) -> None:
        self._known: dict[str, Program] = {}

    def of(self, source: str, field: str) -> Program:
        """The program of a template, compiled at the first call.

        Raises:
            InvalidTemplate: it leaves the language.
        """
        if source not in self._known:
            tree = templates.parse(source, field=field)
            _Bounding().visit(tree)
            self._known[source] = Program(_environment(Budget(0), str).compile(tree))
        return self._known[source]


def _environment(budget: Budget, written: Written) -> SandboxedEnvironment:
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
