"""The filters that a template may use, and what each takes; arguments are constants, checked before anything runs.

Constant and bounded arguments are what makes the size of a filter's result known before it is built
(domain/bounded.py). Names and defaults are Jinja2's own; its other filters stay out, `center(3e8)` alone costs
gigabytes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agenttask.domain.nearest import quoted

MAX_STRING_ARGUMENT: Final = 1024
MAX_INTEGER_ARGUMENT: Final = 10_000
MAX_JSON_INDENT: Final = 16

Problem = str | None
"""What is wrong with an argument, as the end of a sentence; None: nothing."""
Check = Callable[[Any], Problem]


def _string(value: Any) -> Problem:
    if not isinstance(value, str):
        return f"is a string, not {value!r}"
    return f"has at most {MAX_STRING_ARGUMENT} characters, not {len(value)}" if len(value) > MAX_STRING_ARGUMENT else None


def _optional_string(value: Any) -> Problem:
    return None if value is None else _string(value)


def _boolean(value: Any) -> Problem:
    return None if isinstance(value, bool) else f"is true or false, not {value!r}"


def _integer(lowest: int, highest: int) -> Check:
    def check(value: Any) -> Problem:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and lowest <= value <= highest else f"is a whole number from {lowest} to {highest}, not {value!r}"

    return check


def _attribute(value: Any) -> Problem:
    """A name or a dotted path, as `map(attribute='file.name')`."""
    problem = _string(value)
    if problem is None and any(part.startswith("__") for part in value.split(".")):
        return f"does not begin with two underscores, as {value!r} does"
    return problem


def _test(value: Any) -> Problem:
    return None if value in TESTS else f"is one of {', '.join(TESTS)}, not {value!r}"


def _anything(value: Any) -> Problem:
    return _string(value) if isinstance(value, str) else None


TESTS: Final[Mapping[str, int]] = {
    "defined": 0,
    "undefined": 0,
    "none": 0,
    "true": 0,
    "false": 0,
    "eq": 1,
    "equalto": 1,
    "ne": 1,
    "lt": 1,
    "le": 1,
    "gt": 1,
    "ge": 1,
    "in": 1,
}
"""Tests of `selectattr` and `rejectattr`, and how many arguments each takes."""

_SELECT: Final[Mapping[str, Check]] = {"attribute": _attribute, "test": _test, "argument": _anything}

FILTERS: Final[Mapping[str, Mapping[str, Check]]] = {
    "default": {"default_value": _anything, "boolean": _boolean},
    "first": {},
    "last": {},
    "length": {},
    "join": {"d": _string, "attribute": _attribute},
    "map": {"attribute": _attribute, "default": _anything},
    "selectattr": _SELECT,
    "rejectattr": _SELECT,
    "tojson": {"indent": _integer(0, MAX_JSON_INDENT)},
    "trim": {"chars": _optional_string},
    "upper": {},
    "lower": {},
    "truncate": {"length": _integer(1, MAX_INTEGER_ARGUMENT), "killwords": _boolean, "end": _string},
    "indent": {"width": _integer(0, MAX_INTEGER_ARGUMENT), "first": _boolean, "blank": _boolean},
}
"""Each filter's parameters in the order of their positions."""

_BY_NAME_ONLY: Final = {"map"}
"""`map('upper')` would apply a filter, not an attribute."""


def argument_problem(name: str, positional: Sequence[Any], named: Sequence[tuple[Any, Any]]) -> Problem:
    """What is wrong with a filter's arguments, as a sentence."""
    parameters = FILTERS[name]
    if name in _BY_NAME_ONLY and positional:
        return f"`{name}` takes `attribute='...'`, nothing else"
    if len(positional) > len(parameters):
        return f"`{name}` takes at most {len(parameters)} arguments, not {len(positional)}"
    given = dict(zip(parameters, positional, strict=False))
    for key, value in named:
        if key not in parameters or key in given:
            return f"`{name}` is given {key!r} twice" if key in parameters else f"`{name}` has no argument {quoted(key)}"
        given[key] = value
    for key, value in given.items():
        if (problem := parameters[key](value)) is not None:
            return f"`{key}` of `{name}` {problem}"
    return _combination_problem(name, given)


def _combination_problem(name: str, given: Mapping[str, Any]) -> Problem:
    """What is wrong with arguments that are right one by one."""
    if name in ("map", "selectattr", "rejectattr") and "attribute" not in given:
        return f"`{name}` needs an attribute's name"
    if parameters_test := given.get("test"):
        wanted = TESTS[parameters_test]
        if wanted != ("argument" in given):
            return f"the test {parameters_test!r} takes {wanted} argument{'' if wanted == 1 else 's'}"
    if name == "truncate" and len(given.get("end", "...")) > given.get("length", 255):
        return "`length` of `truncate` is at least as long as its `end`"
    return None
