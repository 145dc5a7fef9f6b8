"""Threading strategies: on what blocking work of the runner runs, so that the event loop never does it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeVar, runtime_checkable

from msgspec import Struct

T = TypeVar("T")


class WorkKind(StrEnum):
    """What a function does with its time; declared by the caller, never guessed from its name."""

    ASYNC_IO = "async-io"
    """A coroutine function; runs on the loop."""
    BLOCKING_IO = "blocking-io"
    NATIVE_CPU = "native-cpu"
    """Computes with the GIL released: numpy, tokenizers, zlib."""
    PYTHON_CPU = "python-cpu"
    """Computes in Python and holds the GIL. It may run in another process: a function at the top of a module, arguments that
    pickle and are small (a megabyte costs a millisecond of the loop), nothing of torch."""


class ThreadingLimits(Struct, frozen=True, kw_only=True):
    """Sizes from `spec.execution` or the environment; None: the strategy's own formula."""

    cpus: int = 1
    max_workers: int | None = None
    max_processes: int | None = None


class ThreadingState(Struct, frozen=True, kw_only=True):
    """What a strategy is doing now."""

    queued: int = 0
    """Functions that wait for a thread or process."""
    threads: int = 0
    """Functions that run in threads."""
    processes: int = 0
    """Functions that run in processes."""


class ThreadingStrategy(Protocol):
    """Runs functions off the loop."""

    @property
    def state(self) -> ThreadingState:
        """For metrics and logs."""
        ...

    async def run(self, kind: WorkKind, function: Callable[..., T], *args: object) -> T:
        """`function(*args)`, on what suits its kind; its exception is raised as it is."""
        ...

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - the grace period is the caller's
        """Take no new work, wait up to `timeout` seconds for the running, then let go."""
        ...


@runtime_checkable
class TellsSizes(Protocol):
    """Optional: a strategy that says in the log how large its pools may grow."""

    def sizes(self) -> str:
        """As `8 threads, 2 processes`."""
        ...


ThreadingStrategyFactory = Callable[[ThreadingLimits], ThreadingStrategy]
