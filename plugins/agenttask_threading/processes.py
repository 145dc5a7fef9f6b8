"""A pool of processes for Python code that computes: it holds the GIL, and in a thread the loop would wait for it.

Not `ProcessPoolExecutor`: there one killed child breaks the whole pool, a running function cannot be cancelled, the
children get the runner's environment and outlive a runner that is killed. Here every process has a socket of its own.
The first call starts the first process; a pool that nobody uses costs nothing.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from agenttask.api.errors import Interrupted, StepFailed
from agenttask.plugin.threading import ThreadingLimits
from agenttask_threading.answer import Answer
from agenttask_threading.child import Child, ChildDied
from agenttask_threading.importable import name_of, packed

T = TypeVar("T")
MAX_PROCESSES: Final = 4
_TRIES = 2
_LOOK_SECONDS = 0.005
_LOOKS = 400
"""A killed process is gone within two seconds, or sleeps in the kernel and is waited for no longer."""


def process_count(limits: ThreadingLimits) -> int:
    """As many as the task says, else one a processor up to four: each is an interpreter of its own in memory."""
    return limits.max_processes or min(MAX_PROCESSES, limits.cpus)


class ProcessPool:
    """At most `size` processes, each with one function at a time; the others wait in their order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._dying: list[Child] = []
        self._still = asyncio.Event()
        self._still.set()
        self._draining = False

    @property
    def queued(self) -> int:
        """Functions that wait for a process."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Functions that have one."""
        return self._running

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """`function(*args)` in another process. A caller that is cancelled ends the function, with its process.

        A function whose process dies is tried once more in a new one: it must not matter if it runs twice.

        Raises:
            TypeError: another process cannot find the function, or its arguments cannot be sent.
            StepFailed: its process died twice, or none can be started.
            Interrupted: the pool is draining.
        """
        if self._draining:
            raise _interrupted(function)
        call = packed(function, args)
        await self._turn(function)
        try:
            answer = await self._answer(function, call)
        finally:
            self._pass_on()
        result: T = answer.given()
        return result

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - the grace period is the caller's
        """Take no new work, drop what waits, wait up to `timeout` seconds for what runs, and leave no process."""
        self._draining = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(Interrupted("the pool is draining"))
        try:
            with contextlib.suppress(TimeoutError):  # what still runs then is killed
                async with asyncio.timeout(timeout):
                    await self._still.wait()
        finally:
            for child in (*self._idle, *self._busy):
                child.kill()
            self._dying += self._idle
            self._idle.clear()
        for _ in range(_LOOKS):
            self._reap()
            if not self._dying and not self._busy:
                break
            await asyncio.sleep(_LOOK_SECONDS)

    async def _answer(self, function: Callable[..., Any], call: bytes) -> Answer:
        endings = []
        for _ in range(_TRIES):
            child = await self._child(function)
            self._busy.add(child)
            try:
                answer = await child.call(call)
            except ChildDied:
                endings.append(await child.ended())
                if self._draining:
                    raise _interrupted(function, "did not end in time") from None
            except BaseException:  # cancelled, or out of memory with half an answer read
                child.kill()
                self._dying.append(child)
                raise
            else:
                self._idle.append(child)
                return answer
            finally:
                self._busy.discard(child)
        raise StepFailed(
            f"{name_of(function)}: its process {endings[0]}, and that of a second try {endings[1]}; "
            "if it needs more memory, raise `pod.resources.limits.memory`"
        )

    async def _child(self, function: Callable[..., Any]) -> Child:
        """An idle process, the one used last, or a new one."""
        self._reap()
        while self._idle:
            child = self._idle.pop()
            if not child.reaped():
                return child
            child.kill()
        try:
            return await Child.start(os.environ)
        except OSError as error:
            raise StepFailed(f"{name_of(function)}: no process can be started: {error.strerror or error}") from error

    async def _turn(self, function: Callable[..., Any]) -> None:
        """Wait until fewer than `size` run."""
        if self._running < self._size:
            self._running += 1
            self._still.clear()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except Interrupted:
            raise _interrupted(function) from None
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give the turn to whoever waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
        if not self._running:
            self._still.set()

    def _reap(self) -> None:
        self._dying = [child for child in self._dying if not child.reaped()]


def _interrupted(function: Callable[..., Any], what: str = "did not run") -> Interrupted:
    return Interrupted(f"{name_of(function)} {what}: the runner is stopping")
