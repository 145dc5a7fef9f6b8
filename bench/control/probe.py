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
from pathlib import Path
from typing import Any, Final

from bench.control.sampler import Sampler

from agenttask.runner.loop_lag import LoopLag

ABSENT: Final = ("kubernetes", "kubernetes_asyncio")
"""kopf imports these where they are, 50 MiB of them; the controller's image has neither."""
TICK_SECONDS: Final = 0.02
"""At 5 ms the watching itself takes a fifteenth of the controller's CPU in a burst."""


def watch_loop(file: Path, sampler: Sampler, profile: Path | None) -> None:
    """Begin to measure the running loop; it is a timer and no task, because kopf ends tasks that it did not start."""
    lag = LoopLag(tick_seconds=TICK_SECONDS)
    lag.start()

    def write() -> None:
        found = lag.recent()
        numbers = {"p50": found.quantile(0.5), "p99": found.quantile(0.99), "max": found.largest}
        if profile is not None:
            sampler.write(profile)
        new = file.with_suffix(".new")
        new.write_text(json.dumps({name: 1000 * seconds for name, seconds in numbers.items()}))
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
        watch_loop(Path(os.environ["BENCH_LAG"]), sampler, profile)
        return await serve(*args, **options)

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
