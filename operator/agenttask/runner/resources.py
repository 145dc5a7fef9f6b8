"""What a run uses: sampled every few seconds, for metrics, and summed up in one line of the log at its end.

A sample costs about 4 ms of processor time (most of it the list of child processes) and the loop's timer some
microseconds: together below 0.1 % of one core.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec
from msgspec import Struct

from agenttask.plugin.threading import ThreadingState
from agenttask.runner.cancelling import cancel
from agenttask.runner.loop_lag import LoopLag
from agenttask.runner.usage_probe import Reading

INTERVAL_SECONDS: Final = 5.0
_MIB: Final = 1 << 20


class ResourceSample(Struct, frozen=True, kw_only=True):
    """The container at one moment; `cpu_percent` and the lag are of the time since the sample before."""

    cpu_percent: float
    """Of the processors that the container may use: 100 is all of them."""
    memory_bytes: int
    memory_percent: float
    gpu_memory_bytes: int | None
    gpu_memory_percent: float | None
    lag_p99_seconds: float
    lag_max_seconds: float
    open_files: int
    threads: int
    processes: int
    """Descendants of the runner: commands, and worker processes."""
    queued: int
    """Functions that wait in the threading strategy; the next two run in it."""
    working_threads: int
    working_processes: int


class Folded(Struct):
    """Many values of one thing."""

    count: int = 0
    total: float = 0.0
    peak: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.count, self.total, self.peak = self.count + 1, self.total + value, max(self.peak, value)

    @property
    def mean(self) -> float:
        """Of all; 0 without any."""
        return self.total / self.count if self.count else 0.0


class ResourceObserver(Protocol):
    """Is told each sample, on the loop; must be quick and must not raise."""

    def sampled(self, sample: ResourceSample) -> None:
        """A sample was taken."""
        ...


class ResourceMonitor:
    """`async with ResourceMonitor(...) as monitor: ...; monitor.summary()`.

    Args:
        probe: what is used now; called in a thread.
        cpus: processors that are 100 %.
        state: of the threading strategy.
        observers: told each sample.
        interval_seconds: between two samples.
        clock: seconds.
    """

    def __init__(
        self,
        probe: Callable[[], Reading | None],
        *,
        cpus: int,
        state: Callable[[], ThreadingState] = ThreadingState,
        observers: Sequence[ResourceObserver] = (),
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._cpus = cpus
        self._state = state
        self._observers = tuple(observers)
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._lag = LoopLag()
        self._first: tuple[float, Reading] | None = None
        self._last: tuple[float, Reading] | None = None
        self._folded: dict[str, Folded] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._lag.start()
        reading = await asyncio.to_thread(self._probe)
        if reading is not None:
            self._first = self._last = (self._clock(), reading)
        self._task = asyncio.create_task(self._run(), name="resources")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lag.stop()
        await cancel(self._task)

    async def sample(self) -> ResourceSample | None:
        """Take one now; None where the probe has nothing to tell."""
        before, now, reading = self._last, self._clock(), await asyncio.to_thread(self._probe)
        if reading is None:
            return None
        lag, state = self._lag.recent(), self._state()
        sample = ResourceSample(
            cpu_percent=self._cpu_percent(before, (now, reading)),
            memory_bytes=reading.memory_bytes,
            memory_percent=100 * reading.memory_bytes / reading.memory_total,
            gpu_memory_bytes=None if reading.gpu is None else reading.gpu.used,
            gpu_memory_percent=None if reading.gpu is None else 100 * reading.gpu.used / reading.gpu.total,
            lag_p99_seconds=lag.quantile(0.99),
            lag_max_seconds=lag.largest,
            open_files=reading.open_files,
            threads=reading.threads,
            processes=reading.processes,
            queued=state.queued,
            working_threads=state.threads,
            working_processes=state.processes,
        )
        self._last = (now, reading)
        for name, value in msgspec.structs.asdict(sample).items():
            if value is not None:
                self._folded.setdefault(name, Folded()).add(value)
        for observer in self._observers:
            observer.sampled(sample)
        return sample

    async def summary(self) -> str:
        """Means and peaks since the beginning, for the log; takes a last sample."""
        await self.sample()
        if self._first is None or self._last is None:
            return "not known: the system told nothing"
        cpu, memory, gpu, share = (self._of(name) for name in ("cpu_percent", "memory_bytes", "gpu_memory_bytes", "memory_percent"))
        lag = self._lag.whole
        parts = [
            f"cpu {self._cpu_percent(self._first, self._last):.0f} % (peak {cpu.peak:.0f} %) of {self._cpus} processors",
            f"memory {memory.mean / _MIB:.0f} MiB (peak {memory.peak / _MIB:.0f} MiB, {share.peak:.0f} %)",
            *([f"GPU memory {gpu.mean / _MIB:.0f} MiB (peak {gpu.peak / _MIB:.0f} MiB)"] if gpu.count else []),
            f"loop lag p99 {lag.quantile(0.99) * 1000:.1f} ms (largest {lag.largest * 1000:.1f} ms)",
            f"at most {self._of('open_files').peak:.0f} open files, {self._of('threads').peak:.0f} threads",
            f"at most {self._of('processes').peak:.0f} child processes, {self._of('queued').peak:.0f} functions queued",
        ]
        return "; ".join(parts)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self.sample()

    def _of(self, name: str) -> Folded:
        return self._folded.get(name, Folded())

    def _cpu_percent(self, before: tuple[float, Reading] | None, after: tuple[float, Reading]) -> float:
        if before is None or after[0] <= before[0]:
            return 0.0
        return 100 * max(0.0, after[1].cpu_seconds - before[1].cpu_seconds) / (after[0] - before[0]) / self._cpus
