"""`process` and `hybrid`: Python code that computes runs in processes, coroutines on the loop, everything else on threads.

Functions that wait, or that compute with the GIL released, stay on threads under both: they gain nothing from a process,
and often need what only this one has (open files, locks, a model's weights). The two differ where a caller declares no
kind: `process` refuses that, `hybrid` guesses by the name and warns.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from agenttask.plugin.threading import ThreadingLimits, ThreadingState, WorkKind
from agenttask_threading.kinds import Guess, declared
from agenttask_threading.processes import ProcessPool, process_count
from agenttask_threading.threads import AsyncThreads

T = TypeVar("T")


class Processes:
    """`process`: one pool of processes and one of threads for one run; each starts with its first function."""

    def __init__(self, limits: ThreadingLimits) -> None:
        self._threads = AsyncThreads(limits)
        self._processes = ProcessPool(process_count(limits))
        self._size = process_count(limits)

    @property
    def state(self) -> ThreadingState:
        """What is queued, and what runs where."""
        threads = self._threads.state
        return ThreadingState(queued=threads.queued + self._processes.queued, threads=threads.threads, processes=self._processes.running)

    def sizes(self) -> str:
        """For the log."""
        return f"{self._threads.sizes()}, {self._size} processes"

    async def run(self, kind: WorkKind, function: Callable[..., T], *args: object) -> T:
        """`function(*args)` on what suits its kind.

        Raises:
            TypeError: no kind of ours is declared, or a function for a process cannot be sent to one.
            StepFailed: its process died twice.
            Interrupted: the strategy is draining.
        """
        if declared(kind, function) is WorkKind.PYTHON_CPU:
            return await self._processes.run(function, *args)
        return await self._threads.run(kind, function, *args)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - the grace period is the caller's
        """Both within `timeout` seconds: a thread that runs on is left alone, a process is killed."""
        await asyncio.gather(self._threads.drain(timeout), self._processes.drain(timeout))


class Hybrid:
    """`hybrid`: as `process`; a function without a declared kind is judged by its name, which is deprecated."""

    def __init__(self, limits: ThreadingLimits) -> None:
        self._split = Processes(limits)
        self._guess = Guess()

    @property
    def state(self) -> ThreadingState:
        """What is queued, and what runs where."""
        return self._split.state

    def sizes(self) -> str:
        """For the log."""
        return self._split.sizes()

    async def run(self, kind: WorkKind | None, function: Callable[..., T], *args: object) -> T:
        """`function(*args)` on what suits its kind; None is a guess."""
        return await self._split.run(self._guess.kind(function) if kind is None else kind, function, *args)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - the grace period is the caller's
        """Both within `timeout` seconds."""
        await self._split.drain(timeout)
