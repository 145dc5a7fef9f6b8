"""Our controller as it is, with a watch on its loop: `agenttask-controller`'s own main, and a timer beside its `serve`.

    BENCH_LAG=FILE [BENCH_PROFILE=FILE] python -m bench.control.probe [CONTROLLER-ARGUMENT...]

SIGUSR1 writes how late the loop was since the last one, as JSON in milliseconds. With BENCH_PROFILE its functions are
timed and written at the end; that run's own numbers mean nothing.
"""

import asyncio
import cProfile
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from agenttask.runner.loop_lag import LoopLag

ABSENT: Final = ("kubernetes", "kubernetes_asyncio")
"""kopf imports these where they are, 50 MiB of them; the controller's image has neither."""
TICK_SECONDS: Final = 0.005


def watch_loop(file: Path) -> None:
    """Begin to measure the running loop; it is a timer and no task, because kopf ends tasks that it did not start."""
    lag = LoopLag(tick_seconds=TICK_SECONDS)
    lag.start()

    def write() -> None:
        found = lag.recent()
        numbers = {"p50": found.quantile(0.5), "p99": found.quantile(0.99), "max": found.largest}
        new = file.with_suffix(".new")
        new.write_text(json.dumps({name: 1000 * seconds for name, seconds in numbers.items()}))
        new.replace(file)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, write)


def main() -> int:
    """The controller's exit status."""
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment] # so an import fails as where it is not installed
    from agenttask.controller import main as program

    serve = vars(program)["serve"]

    async def watched(*args: Any, **options: Any) -> Any:
        watch_loop(Path(os.environ["BENCH_LAG"]))
        return await serve(*args, **options)

    vars(program)["serve"] = watched
    profile = os.environ.get("BENCH_PROFILE")
    if not profile:
        return program.main(sys.argv[1:])
    functions = cProfile.Profile()
    try:
        return functions.runcall(program.main, sys.argv[1:])
    finally:
        functions.dump_stats(profile)


if __name__ == "__main__":
    sys.exit(main())
