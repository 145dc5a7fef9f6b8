"""What a run has opened and not closed: tasks, HTTP sessions, files, threads, child processes, each with where it was made.

Two looks are compared, one before the run and one after it. Where something was made is known while asyncio's debug mode
and tracemalloc are on (runner/debug.py); without them the report still says what it is.
"""

import asyncio
import gc
import io
import os
import sys
import threading
import traceback
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import Any, Final

import aiohttp
import psutil
from msgspec import Struct

_EXECUTOR_THREADS: Final = ("asyncio_", "uvloop_")
"""The loop's own threads stay until the loop ends."""
_FRAMES: Final = 3


class Thing(Struct, frozen=True, kw_only=True):
    """One thing that is open: its kind and what it is for a person; `where` it was made, or what it is at now, or ''."""

    kind: str
    what: str
    where: str = ""


Look = Mapping[tuple[str, object], Thing]
"""By kind and identity; objects are their own identity, so that none is taken for one that has gone."""


def look() -> Look:
    """All that is open now, seen from a coroutine; some 10 ms for each 100,000 objects of the program."""
    gc.collect()
    found: dict[tuple[str, object], Thing] = {}
    current = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not current:
            what = f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', 'coroutine')})"
            found["task", task] = Thing(kind="task", what=what, where=_traced(getattr(task, "_source_traceback", None)))
    for thread in threading.enumerate():
        if not thread.name.startswith(_EXECUTOR_THREADS):
            found["thread", thread] = Thing(kind="thread", what=thread.name, where=_running(thread))
    for child in psutil.Process().children(recursive=True):
        found["process", (child.pid, child.create_time())] = Thing(kind="process", what=f"{child.pid} {_command(child)}")
    opened: dict[int, str] = {}
    for each in gc.get_objects():
        if isinstance(each, aiohttp.ClientSession | aiohttp.BaseConnector):
            if not each.closed:
                where = _traced(getattr(each, "_source_traceback", None)) or _allocated(each)
                found["session", each] = Thing(kind="session", what=type(each).__name__, where=where)
        elif isinstance(each, io.FileIO) and not each.closed:
            opened[each.fileno()] = _allocated(each)
    for number, target in _descriptors():
        found["file", (number, target)] = Thing(kind="file", what=f"{target} (descriptor {number})", where=opened.get(number, ""))
    return found


def left_open(before: Look, after: Look) -> list[Thing]:
    """What is there after and was not before, by kind."""
    return sorted((thing for key, thing in after.items() if key not in before), key=lambda thing: (thing.kind, thing.what))


def lines(found: Iterable[Thing]) -> list[str]:
    """The report: one line a thing, or one that there is none."""
    told = [f"{thing.kind} left open: {thing.what}{f', {thing.where}' if thing.where else ''}" for thing in found]
    return told or ["nothing was left open"]


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only, and the folder is open meanwhile
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - a socket's target is no path
        except OSError:  # the folder's own descriptor is closed by now
            continue
        found.append((int(name), target))
    return found


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "(ended)"


def _traced(frames: Any) -> str:
    """A traceback of asyncio, the innermost frames first, without asyncio's own."""
    if not frames:
        return ""
    own = os.path.dirname(asyncio.__file__)  # noqa: PTH120 - compared with names of frames
    kept = [frame for frame in frames if not frame.filename.startswith(own)]
    return _shown("made at", [(frame.filename, frame.lineno) for frame in kept])


def _allocated(thing: object) -> str:
    """Where its memory was asked for, the innermost frames first."""
    found = tracemalloc.get_object_traceback(thing) if tracemalloc.is_tracing() else None
    return "" if found is None else _shown("made at", [(frame.filename, frame.lineno) for frame in found])


def _running(thread: threading.Thread) -> str:
    """What a thread is at: nothing remembers where it was made."""
    frame = None if thread.ident is None else sys._current_frames().get(thread.ident)  # noqa: SLF001 - documented, for debuggers
    return "" if frame is None else _shown("now at", _stack(frame))


def _stack(frame: FrameType) -> Sequence[tuple[str, int | None]]:
    """The outermost first; without the source lines, which would be read from disk."""
    return [(each.f_code.co_filename, line) for each, line in traceback.walk_stack(frame)][::-1]


def _shown(how: str, frames: Sequence[tuple[str, int | None]]) -> str:
    """The innermost frames, the last one first."""
    return f"{how} {' < '.join(f'{name}:{line}' for name, line in reversed(frames[-_FRAMES:]))}" if frames else ""
