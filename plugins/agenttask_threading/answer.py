"""What comes from another process is read with care: the runner holds credentials, and a pickle can name any function.

A worker closes its memory as its first act, but a command of the task, being of the same user, might reach into it before
that. So an answer may only be made of plain values, exceptions and classes without surprises, all of them known here.
"""

import dataclasses
import enum
import io
import pickle
import sys
from typing import Any

from msgspec import Struct

_PLAIN = {
    "array": {"array", "_array_reconstructor"},
    "builtins": {"bytearray", "complex", "frozenset", "range", "set", "slice"},
    "collections": {"Counter", "OrderedDict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "msgspec._utils": {"rebuild"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "uuid": {"SafeUUID", "UUID"},
}


class RemoteTraceback(Exception):
    """Where in the other process an exception came from; the cause of the one that is raised here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Answer:
    """A function's result, or its exception, as it came."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def given(self) -> Any:
        """The result; the exception is raised, with the other process's traceback as its cause.

        Raises:
            TypeError: the answer holds what is not taken from another process.
        """
        try:
            succeeded, *rest = _Careful(io.BytesIO(self._raw)).load()
        except pickle.UnpicklingError as error:
            raise TypeError(f"the answer of another process is not taken: {error}") from error
        if succeeded:
            return rest[0]
        raised, told = rest
        raise raised from RemoteTraceback(told)


class _Careful(pickle.Unpickler):
    """Finds classes that only hold values."""

    def find_class(self, module: str, name: str) -> Any:
        """The class, or one of the few functions that rebuild one."""
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if name in _PLAIN.get(module, ()) or (isinstance(found, type) and _holds_values(found)):
            return found
        raise pickle.UnpicklingError(f"it holds {module}.{name}; return plain values, exceptions, Structs or dataclasses")


def _holds_values(found: type) -> bool:
    """Whether making one does nothing but keep what it is given."""
    return issubclass(found, (Exception, Struct, enum.Enum)) or dataclasses.is_dataclass(found) or hasattr(found, "_fields")
