"""The allow-listed language: one walk over a parsed tree that refuses whatever is not listed here.

Names, attribute and item access, literals, comparisons, `and` `or` `not`, `~`, `if`, `for`, and the filters of
domain/filters.py. No calls and no arithmetic: inside Jinja2's sandbox `'%9999999999d' % 1` and `10**10000000` cost
seconds and gigabytes each.
"""

import math
import re
from collections.abc import Collection
from typing import Final

from jinja2 import nodes
from msgspec import Struct

from agenttask.api.errors import InvalidTemplate
from agenttask.domain.filters import FILTERS, argument_problem
from agenttask.domain.nearest import did_you_mean, listed, quoted

MAX_DEPTH: Final = 32
"""Nested expressions and blocks; far more than a person writes, far less than Python's stack."""
MAX_LOOPS: Final = 2
MAX_LITERAL_ITEMS: Final = 64
MAX_INTEGER: Final = 2**63 - 1

TASK_FIELDS: Final = ("name", "namespace", "uid")
STEP_FIELDS: Final = ("text", "json", "files", "exitCode", "results", "error")
LOOP_FIELDS: Final = ("index", "index0", "first", "last")
NAMES: Final = ("params", "steps", "task", "attempt")
SOMETIMES: Final = {
    "item": "a step with `forEach`",
    "index": "a step with `forEach`",
    "previous": "a step with `forEach` and `parallelism: 1`",
    "lastError": "a step with `retry`",
}
"""Names that not every template has, and whose fields have them."""
_RESERVED: Final = (*NAMES, "loop", "self", "super", "caller", "varargs", "kwargs")

_DASHED: Final = re.compile(r"\b(steps|params)\.([A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+)")
_OUTSIDE: Final[dict[type[nodes.Node], str]] = {
    nodes.Call: "a call",
    nodes.Test: "a test (`is ...`); use `| default(...)`, or `==`,",
    nodes.Slice: "a slice; use `| first`, `| last` or `| truncate`,",
    nodes.Macro: "a macro",
    nodes.CallBlock: "a call block",
    nodes.FilterBlock: "a filter block",
    nodes.Assign: "`set`",
    nodes.AssignBlock: "`set`",
    nodes.With: "`with`",
    nodes.Block: "a block",
    nodes.Extends: "`extends`",
    nodes.Include: "`include`",
    nodes.Import: "`import`",
    nodes.FromImport: "`import`",
    nodes.Scope: "`autoescape`",
    nodes.NSRef: "a namespace",
}


class Scope(Struct, frozen=True, kw_only=True):
    """The names that a template may use: `steps` are those that have ended by then, `later` the other ones of the task.

    `extra` are those of `SOMETIMES` that there are.
    """

    params: Collection[str]
    steps: Collection[str]
    later: Collection[str] = ()
    extra: Collection[str] = ()


class Walk:
    """One walk over one tree; raises InvalidTemplate at the first node that is not part of the language."""

    def __init__(self, source: str, field: str, scope: Scope | None) -> None:
        self._source = source
        self._field = field
        self._scope = scope
        self._names = (*NAMES, *(SOMETIMES if scope is None else scope.extra))
        self._variables: list[str] = []

    def visit(self, node: nodes.Node, depth: int = 0) -> None:
        """Refuse this node or go on with its children."""
        if depth > MAX_DEPTH:
            raise self._refuse(node, f"the template is nested more than {MAX_DEPTH} deep")
        match node:
            case nodes.Name():
                self._name(node)
            case nodes.Getattr() | nodes.Getitem():
                self._access(node, depth)
            case nodes.Filter():
                self._filter(node, depth)
            case nodes.For():
                self._loop(node, depth)
            case nodes.Const():
                self._constant(node)
            case nodes.Neg(node=nodes.Const(value=int() | float()) as number):
                self._constant(number)
            case nodes.CondExpr(expr2=None):
                raise self._refuse(node, "an inline `if` needs an `else`, as in `'a' if b else ''`")
            case nodes.List() | nodes.Tuple() | nodes.Dict() if len(node.items) > MAX_LITERAL_ITEMS:
                raise self._refuse(node, f"a literal has at most {MAX_LITERAL_ITEMS} items, not {len(node.items)}")
            case (
                nodes.Template()
                | nodes.Output()
                | nodes.TemplateData()
                | nodes.If()
                | nodes.CondExpr()
                | nodes.Compare()
                | nodes.Operand()
                | nodes.And()
                | nodes.Or()
                | nodes.Not()
                | nodes.Concat()
                | nodes.List()
                | nodes.Tuple()
                | nodes.Dict()
                | nodes.Pair()
            ):
                self._children(node, depth)
            case _:
                raise self._outside(node)

    def _outside(self, node: nodes.Node) -> InvalidTemplate:
        if isinstance(node, nodes.BinExpr | nodes.UnaryExpr):
            hint = (dash_hint(self._source) if isinstance(node, nodes.Sub) else "") or "; compute in a step"
            return self._refuse(node, f"arithmetic is not part of the template language{hint}")
        what = next((text for kind, text in _OUTSIDE.items() if isinstance(node, kind)), f"`{type(node).__name__}`")
        return self._refuse(node, f"{what} is not part of the template language")

    def _children(self, node: nodes.Node, depth: int) -> None:
        for child in node.iter_child_nodes():
            self.visit(child, depth + 1)

    def _name(self, node: nodes.Name) -> None:
        """A name that stands alone: `params` and `task` are values, a step or a loop is not."""
        if node.name == "loop" and self._variables:
            raise self._refuse(node, f"`loop` alone is no value; say which of {', '.join(LOOP_FIELDS)}")
        if node.name == "steps":
            raise self._refuse(node, "`steps` alone is no value; say which step, as in `steps.docs.text`")
        if node.name not in self._names and node.name not in self._variables:
            known = (*self._names, *self._variables)
            where = f"; only {SOMETIMES[node.name]} has it" if node.name in SOMETIMES else did_you_mean(node.name, known)
            raise self._refuse(node, f"{quoted(node.name)} is unknown here; there are: {listed(known)}{where}")

    def _access(self, node: nodes.Getattr | nodes.Getitem, depth: int) -> None:
        """`a.b` and `a['b']`, the same for us; the first two after `steps` are a step's name and its field."""
        key = self._key(node)
        match node.node:
            case nodes.Name(name="params"):
                if self._scope is not None:
                    self._known(node, "param", key, self._scope.params, "spec.params")
            case nodes.Name(name="task"):
                self._one_of(node, "task", key, TASK_FIELDS)
            case nodes.Name(name="loop") if self._variables:
                self._one_of(node, "loop", key, LOOP_FIELDS)
            case nodes.Name(name="previous") if "previous" in self._names and "previous" not in self._variables:
                self._one_of(node, "previous", key, STEP_FIELDS)
            case nodes.Name(name="steps"):
                raise self._refuse(node, f"a step alone is no value; say which of {', '.join(STEP_FIELDS)}")
            case nodes.Getattr(node=nodes.Name(name="steps")) | nodes.Getitem(node=nodes.Name(name="steps")):
                step = self._key(node.node)
                self._step(node.node, step)
                self._one_of(node, f"steps[{quoted(step)}]", key, STEP_FIELDS)
            case _:
                self.visit(node.node, depth + 1)
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const):
            self.visit(node.arg, depth + 1)

    def _key(self, node: nodes.Getattr | nodes.Getitem) -> str | int | None:
        """The constant key, None where it is computed."""
        key = node.attr if isinstance(node, nodes.Getattr) else node.arg.value if isinstance(node.arg, nodes.Const) else None
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            self._constant(node.arg)
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise self._refuse(node, f"an item is named by a string or a whole number, not {quoted(key)}")
        if isinstance(key, str) and key.startswith("__"):
            raise self._refuse(node, f"{quoted(key)} begins with two underscores: Python's own attributes are out of reach")
        return key

    def _step(self, node: nodes.Node, name: object) -> None:
        if self._scope is None:
            if name is None:
                raise self._refuse(node, "the name after `steps` is a constant, as in `steps['write-tests'].text`")
        elif name in self._scope.later:
            raise self._refuse(node, f"step {quoted(name)} may not have ended by then; add it to needs")
        else:
            self._known(node, "step", name, self._scope.steps, "steps that have ended by then")

    def _known(self, node: nodes.Node, what: str, name: object, known: Collection[str], where: str) -> None:
        if name is None:
            raise self._refuse(node, f"the name after `{what}s` is a constant, as in `{what}s['name']`")
        if name not in known:
            near = did_you_mean(name, known) if isinstance(name, str) else ""
            hint = dash_hint(self._source) if not near and isinstance(node, nodes.Getattr) else near
            raise self._refuse(node, f"no {what} {quoted(name)} can be seen here; {where}: {listed(known)}{hint}")

    def _one_of(self, node: nodes.Node, what: str, key: object, fields: Collection[str]) -> None:
        if key not in fields:
            near = did_you_mean(key, fields) if isinstance(key, str) else ""
            raise self._refuse(
                node, f"{what} has no {quoted(key) if key is not None else 'computed field'}; it has: {listed(fields)}{near}"
            )

    def _filter(self, node: nodes.Filter, depth: int) -> None:
        if node.name not in FILTERS or node.node is None:
            raise self._refuse(
                node, f"there is no filter {quoted(node.name)}; there are: {', '.join(FILTERS)}{did_you_mean(node.name, FILTERS)}"
            )
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise self._refuse(node, f"`{node.name}` takes no `*` and `**` arguments")
        positional = [self._argument(node.name, argument) for argument in node.args]
        named = [(pair.key, self._argument(node.name, pair.value)) for pair in node.kwargs]
        if (problem := argument_problem(node.name, positional, named)) is not None:
            raise self._refuse(node, problem)
        self.visit(node.node, depth + 1)

    def _argument(self, name: str, node: nodes.Expr) -> object:
        """The value of a constant argument: a scalar, or an empty list or mapping."""
        match node:
            case nodes.Const():
                self._constant(node)
                return node.value
            case nodes.Neg(node=nodes.Const(value=int() | float() as number)):
                return -number
            case nodes.List(items=[]):
                return []
            case nodes.Dict(items=[]):
                return {}
            case _:
                raise self._refuse(node, f"an argument of `{name}` is a constant: a string, a number, true, false, none, [] or {{}}")

    def _loop(self, node: nodes.For, depth: int) -> None:
        if node.recursive:
            raise self._refuse(node, "a recursive loop is not part of the template language")
        if len(self._variables) >= MAX_LOOPS:
            raise self._refuse(node, f"loops stand at most {MAX_LOOPS} deep in each other")
        if not isinstance(node.target, nodes.Name):
            raise self._refuse(node, "a loop has one variable, as in `{% for item in list %}`")
        name = node.target.name
        taken = (*_RESERVED, *self._variables, *(() if self._scope is None else self._scope.extra))
        if name in taken or name.startswith("_") or not name.isascii():
            raise self._refuse(node, f"{quoted(name)} cannot be a loop's variable; choose another name")
        self.visit(node.iter, depth + 1)
        for child in node.else_:
            self.visit(child, depth + 1)
        self._variables.append(name)
        for child in ([node.test] if node.test is not None else []) + list(node.body):
            self.visit(child, depth + 1)
        self._variables.pop()

    def _constant(self, node: nodes.Const) -> None:
        match node.value:
            case int() if abs(node.value) > MAX_INTEGER:
                raise self._refuse(node, "a whole number has at most 63 bits")
            case float() if not math.isfinite(node.value):
                raise self._refuse(node, "a number is finite")
            case str() if not node.value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
                raise self._refuse(node, "a string holds half of a surrogate pair")
            case _:
                pass

    def _refuse(self, node: nodes.Node, problem: str) -> InvalidTemplate:
        return InvalidTemplate(self._field, at_line(self._source, node.lineno, problem))


def at_line(source: str, line: int, problem: str) -> str:
    """The problem with its line, where the template has several."""
    return f"line {line}: {problem}" if "\n" in source.rstrip("\n") else problem


def dash_hint(source: str) -> str:
    """The remedy where a name with a dash stands after a dot, which reads as a subtraction."""
    if (found := _DASHED.search(source)) is None:
        return ""
    owner, name = found.groups()
    return f"; a name with a dash stands in brackets: `{owner}[{name!r}]`, as `{owner}.{name}` is a subtraction"
