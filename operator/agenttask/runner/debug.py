"""`AGENTTASK_DEBUG=1`: asyncio's debug mode, where memory goes, and what a run leaves open, all as lines of the log.

It costs: allocations are traced, and every task remembers where it was made. For looking for a fault, not for every day.
"""

import asyncio
import math
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

SLOW_CALLBACK_SECONDS: Final = 0.1
_FRAMES: Final = 5
_TOP: Final = 10

Line = Callable[[str, str], None]


@contextmanager
def traced_memory(log: Line) -> Iterator[None]:
    """Trace allocations, and tell at the end which lines hold most."""
    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start(_FRAMES)
    try:
        yield
    finally:
        current, peak = tracemalloc.get_traced_memory()
        log("memory", f"{current / 1024:.0f} KiB of Python objects, at most {peak / 1024:.0f} KiB; the lines that hold most:")
        for each in tracemalloc.take_snapshot().statistics("lineno")[:_TOP]:
            frame = each.traceback[0]
            log("memory", f"{each.size / 1024:.0f} KiB in {each.count} objects of {frame.filename}:{frame.lineno}")
        if ours:
            tracemalloc.stop()


@asynccontextmanager
async def leak_report(log: Line) -> AsyncIterator[None]:
    """Tell at the end what was opened inside and is still there; around all that a run makes and ends."""
    from agenttask.runner import leaks  # it knows aiohttp, which many tasks need not

    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = math.inf  # looking is slow itself
    before = leaks.look()
    await asyncio.sleep(0)
    loop.slow_callback_duration = SLOW_CALLBACK_SECONDS
    try:
        yield
    finally:
        await asyncio.sleep(0)  # what was closed a moment ago is called back
        loop.slow_callback_duration = math.inf
        for line in leaks.lines(leaks.left_open(before, leaks.look())):
            log("leaks", line)
