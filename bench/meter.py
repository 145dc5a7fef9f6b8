"""What benchmarks measure around a piece of work: wall time, CPU of this process and its children, the loop's lag, memory."""

import asyncio
import contextlib
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import psutil

_TICK_SECONDS = 0.005


@dataclass
class Measured:
    """Of one piece of work; `lags` are seconds that a timer came late, `memory` is PSS in bytes at its end, children included.

    `held` is the part of each lag in which the loop's thread did not merely wait for a processor: it worked, or waited for Python's lock.
    """

    seconds: float = 0
    cpu: float = 0
    lags: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    memory: int = 0

    def lag(self, percent: float) -> float:
        """A percentile of the loop's lag in milliseconds."""
        return _percentile(self.lags, percent)

    def held_up(self, percent: float) -> float:
        """A percentile of `held` in milliseconds."""
        return _percentile(self.held, percent)


def _percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values) or [0.0]
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def cpu_seconds() -> float:
    """User and system time of this process and of all its children, those that live included."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    living = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            living += times.user + times.system
    return own + living


def memory() -> int:
    """Proportional set size of this process and its children: shared pages count once."""
    found = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.memory_full_info().pss
    return found


@contextlib.asynccontextmanager
async def measured() -> AsyncIterator[Measured]:
    """`async with measured() as found: work`."""
    found = Measured()
    watch = asyncio.create_task(_watch(found))
    cpu, began = cpu_seconds(), time.perf_counter()
    try:
        yield found
    finally:
        found.seconds, found.cpu = time.perf_counter() - began, cpu_seconds() - cpu
        found.memory = memory()
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _watch(found: Measured) -> None:
    with processor_waits() as waited:
        while True:
            before, due = waited(), time.perf_counter() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            lag = time.perf_counter() - due
            found.lags.append(lag)
            found.held.append(max(0.0, lag - (waited() - before)))


@contextlib.contextmanager
def processor_waits() -> Iterator[Callable[[], float]]:
    """Tells for how many seconds this thread has been ready to run and had no processor (the kernel's `schedstat`)."""
    descriptor = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
    try:
        yield lambda: int(os.pread(descriptor, 100, 0).split()[1]) / 1e9
    finally:
        os.close(descriptor)
