"""What a function does with its time: declared by the caller, and guessed from its name only where nothing is declared."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, Final

from agenttask.plugin.threading import WorkKind
from agenttask_threading.importable import name_of, problem_with

COMPUTING: Final = ("compute", "calculate", "process", "generate", "encode")
"""Words in the name of a function that is taken for one that computes."""


def declared(kind: object, function: Callable[..., Any]) -> WorkKind:
    """The kind; a coroutine function is asynchronous whatever is said of it.

    Raises:
        TypeError: it is none of ours.
    """
    if inspect.iscoroutinefunction(function):
        return WorkKind.ASYNC_IO
    try:
        return WorkKind(kind)  # type: ignore[arg-type]  # what comes from outside may be anything
    except ValueError:
        known = ", ".join(each.value for each in WorkKind)
        raise TypeError(f"{name_of(function)}: {kind!r} is no kind of work; declare one of {known}") from None


class Guess:
    """The kind by the function's name, with a warning, once for each name. Deprecated: a name says nothing reliable."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def kind(self, function: Callable[..., Any]) -> WorkKind:
        """Processes for what sounds like computing and can be sent there, the loop for coroutines, threads for the rest."""
        if inspect.iscoroutinefunction(function):
            return WorkKind.ASYNC_IO
        name = name_of(function)
        computes = any(word in name.rpartition(".")[2].lower() for word in COMPUTING) and problem_with(function) is None
        kind = WorkKind.PYTHON_CPU if computes else WorkKind.BLOCKING_IO
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"{name} runs as {kind.value} because of its name; declare what it does, guessing will go away",
                DeprecationWarning,
                stacklevel=3,
            )
        return kind
