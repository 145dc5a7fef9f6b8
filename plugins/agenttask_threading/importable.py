"""Functions that another process can find: by module and name, as pickle sends them."""

import functools
import importlib
import operator
import pickle
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def name_of(function: Callable[..., Any]) -> str:
    """How messages call a function; a `partial` by what it calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", repr(function))


def problem_with(function: Callable[..., Any]) -> str | None:
    """Why another process cannot find `function`; None where it can."""
    while isinstance(function, functools.partial):
        function = function.func
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None)
    owner = getattr(function, "__self__", None)
    if "<lambda>" in name:
        return "it is a lambda"
    if "<locals>" in name:
        return "it is defined inside of another function"
    if owner is not None and not isinstance(owner, (ModuleType, type)):
        return "it is a method bound to an object"
    if not name or module is None:
        return "it has no name"
    if module == "__main__":
        return "it is defined in the program's main file, which other processes do not run"
    try:
        found = operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError):
        return f"{module} has no {name}"
    return None if found == function else f"{module}.{name} is another object by now"


def packed(function: Callable[..., Any], args: Sequence[object]) -> bytes:
    """The call as bytes.

    Raises:
        TypeError: another process cannot find the function, or its arguments cannot be sent.
    """
    name = name_of(function)
    if problem := problem_with(function):
        raise TypeError(f"{name} cannot run in another process: {problem}; move it to the top level of a module, or declare another kind")
    try:
        return pickle.dumps((function, tuple(args)), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # an argument's own `__reduce__` may raise anything
        raise TypeError(f"the arguments of {name} cannot be sent to another process: {error}; pass plain values") from error
