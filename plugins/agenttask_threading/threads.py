"""`async`: coroutines run on the loop, everything else on one pool of threads.

The pool is our own: the loop's default one is shared with name resolution, and cannot be waited for within a time.
Python code that computes runs here too and holds the GIL; the strategies with processes are for that.
"""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from agenttask.api.errors import Interrupted
from agenttask.plugin.niceness import after_the_loop
from agenttask.plugin.threading import ThreadingLimits, ThreadingState, WorkKind
from agenttask_threading.importable import name_of
from agenttask_threading.kinds import declared

T = TypeVar("T")
MAX_THREADS: Final = 32


def thread_count(limits: ThreadingLimits) -> int:
    """As many as the task says, else the formula of Python's own pool: waiting threads are cheap, 32 are enough."""
    return limits.max_workers or min(MAX_THREADS, limits.cpus + 4)


class AsyncThreads:
    """One pool of threads for one run."""

    def __init__(self, limits: ThreadingLimits) -> None:
        self._size = thread_count(limits)
        self._pool = ThreadPoolExecutor(max_workers=self._size, thread_name_prefix="agenttask", initializer=after_the_loop)
        self._threads: set[Future[Any]] = set()
        self._coroutines: set[asyncio.Future[None]] = set()
        self._draining = False

    @property
    def state(self) -> ThreadingState:
        """What is queued, and what runs."""
        running = min(len(self._threads), self._size)
        return ThreadingState(queued=len(self._threads) - running, threads=running)

    def sizes(self) -> str:
        """For the log."""
        return f"{self._size} threads"

    async def run(self, kind: WorkKind, function: Callable[..., T], *args: object) -> T:
        """`function(*args)`; context variables are those of the caller.

        Raises:
            TypeError: `kind` is none of ours.
            Interrupted: the strategy is draining; the function did not start.
        """
        if self._draining:
            raise self._interrupted(function)
        on_loop = declared(kind, function) is WorkKind.ASYNC_IO
        result: T = await (self._on_loop(function, *args) if on_loop else self._on_thread(function, *args))
        return result

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - the grace period is the caller's
        """Take no new work, drop what is queued, and wait up to `timeout` seconds for what runs.

        A thread cannot be stopped: one that still runs after that is left alone, and the interpreter waits for it at
        its end unless the process exits hard.
        """
        self._draining = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        waiting: list[Any] = [asyncio.to_thread(wait, tuple(self._threads), timeout)] if self._threads else []
        if self._coroutines:
            waiting.append(asyncio.wait(tuple(self._coroutines), timeout=timeout))
        await asyncio.gather(*waiting)

    async def _on_loop(self, function: Callable[..., Any], *args: object) -> Any:
        ended = asyncio.get_running_loop().create_future()
        self._coroutines.add(ended)
        try:
            result = function(*args)
            if not inspect.isawaitable(result):
                raise TypeError(f"{function!r} is declared {WorkKind.ASYNC_IO.value} and is no coroutine function; declare what it does")
            return await result
        finally:
            self._coroutines.discard(ended)
            ended.set_result(None)

    async def _on_thread(self, function: Callable[..., Any], *args: object) -> Any:
        call = functools.partial(contextvars.copy_context().run, function, *args)
        future = self._pool.submit(call)
        self._threads.add(future)
        future.add_done_callback(self._threads.discard)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if future.cancelled() and (caller is None or not caller.cancelling()):
                raise self._interrupted(function) from None  # dropped by drain; the caller itself was not cancelled
            raise

    @staticmethod
    def _interrupted(function: Callable[..., Any]) -> Interrupted:
        return Interrupted(f"{name_of(function)} did not run: the runner is stopping")
