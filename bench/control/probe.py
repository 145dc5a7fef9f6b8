"""Our controller as it is, with a watch on its loop: `agenttask-controller`'s own main, and a timer beside its `serve`.

    BENCH_LAG=FILE [BENCH_PROFILE=FILE] python -m bench.control.probe [CONTROLLER-ARGUMENT...]

SIGUSR1 writes how late the loop was since the last one, as JSON in milliseconds. With BENCH_PROFILE the stacks are sampled,
and those since the last SIGUSR1 are written by the next, or by the program's end where none came.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.control.sampler import Sampler
from bench.meter import Measured, processor_waits

ABSENT: Final = ("kubernetes", "kubernetes_asyncio")
"""kopf imports these where they are, 50 MiB of them; the controller's image has neither."""
TICK_SECONDS: Final = 0.02
"""At 5 ms the watching itself takes a fifteenth of the controller's CPU in a burst."""


class Ticks:
    """How late a timer of the running loop comes; it is no task, because kopf ends tasks that it did not start."""

    def __init__(self, waited: Callable[[], float]) -> None:
        self._loop, self._waited = asyncio.get_running_loop(), waited
        self._measured = Measured()
        self._tick(None, 0.0)

    def _tick(self, due: float | None, before: float) -> None:
        now, waited = self._loop.time(), self._waited()
        if due is not None:
            self._measured.lags.append(max(0.0, now - due))
            self._measured.held.append(max(0.0, now - due - (waited - before)))
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick, now + TICK_SECONDS, waited)

    def stop(self) -> None:
        """Ask no more: what tells the waits is about to be closed."""
        self._timer.cancel()

    def recent(self) -> dict[str, float]:
        """Milliseconds since the last question; `held_p99` without the time in which the thread was ready and had no processor."""
        found, self._measured = self._measured, Measured()
        return {"p50": found.lag(50), "p99": found.lag(99), "max": found.lag(100), "held_p99": found.held_up(99)}


def watch_loop(ticks: Ticks, file: Path, sampler: Sampler, profile: Path | None) -> None:
    """Write on SIGUSR1."""

    def write() -> None:
        if profile is not None:
            sampler.write(profile)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(ticks.recent()))
        new.replace(file)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, write)


def main() -> int:
    """The controller's exit status."""
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment] # so an import fails as where it is not installed
    from agenttask.controller import main as program

    profile = Path(os.environ["BENCH_PROFILE"]) if "BENCH_PROFILE" in os.environ else None
    sampler, serve = Sampler(), vars(program)["serve"]

    async def watched(*args: Any, **options: Any) -> Any:
        with processor_waits() as waited:
            ticks = Ticks(waited)
            watch_loop(ticks, Path(os.environ["BENCH_LAG"]), sampler, profile)
            try:
                return await serve(*args, **options)
            finally:
                ticks.stop()

    vars(program)["serve"] = watched
    if profile is not None:
        sampler.start()
    try:
        return program.main(sys.argv[1:])
    finally:
        if profile is not None and not sampler.written:
            sampler.write(profile)


if __name__ == "__main__":
    sys.exit(main())
