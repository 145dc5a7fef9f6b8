"""Whether a file holds what was asked for: a text, or JSON of a schema. Blocking; a strategy runs it on a thread."""

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.report import shorten
from agenttask_steps.json_schema import problems_of

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SHOWN = 120


class Content(Struct, frozen=True, kw_only=True):
    """What a file is to hold; a schema is checked before."""

    contains: str = ""
    json_schema: dict[str, Any] | None = None


class Inspected(Struct, frozen=True, kw_only=True):
    """What is wrong with a file, or None; and its JSON value, where a schema was given."""

    problem: str | None = None
    value: Any = None


def inspect(path: Path, content: Content) -> Inspected:
    """Read the file and judge it; half a file is a problem like any other."""
    try:
        descriptor = os.open(path, _READ)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Inspected(problem="it is no regular file")
            raw = file.read(MAX_STEP_TEXT_BYTES + 1)
    except OSError as error:
        return Inspected(problem=f"it cannot be read: {error.strerror}")
    if len(raw) > MAX_STEP_TEXT_BYTES:
        return Inspected(problem=f"it has more than {MAX_STEP_TEXT_BYTES} bytes, the most that is read")
    if content.contains and content.contains.encode("utf-8", "surrogatepass") not in raw:
        return Inspected(problem=f"it does not contain {shorten(repr(content.contains), _SHOWN)}")
    if content.json_schema is None:
        return Inspected()
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Inspected(problem=f"it is no JSON: {error}")
    problems = problems_of(value, content.json_schema)
    if problems:
        return Inspected(problem=f"it does not fit jsonSchema: {'; '.join(problems)}")
    return Inspected(value=value)
