"""In which order steps start: each as soon as its needs have ended; how many run at once is the slots' business (slots.py).

The first failure ends the task: no step starts any more, running ones are cancelled and have ended when this returns.
Nobody pays for model calls of a task that has failed already; what a user wants in any case says `continueOnError`. A soft
deadline is no such failure: what runs may end.
"""

import asyncio
from collections.abc import Awaitable, Callable

from agenttask.api.errors import NoTimeLeft
from agenttask.domain.graph import StepGraph


async def run_in_order(graph: StepGraph, *, run: Callable[[int], Awaitable[None]], halt: Callable[[str], None]) -> None:
    """Run every step of the graph.

    Args:
        graph: which step waits for which.
        run: runs one step by its index; an exception of it is a failure.
        halt: told why, before running steps are cancelled.

    Raises:
        Exception: the first failure; of several at the same moment the one of the earliest step.
    """
    running: dict[asyncio.Task[None], int] = {}
    finished: set[int] = set()
    late: dict[int, NoTimeLeft] = {}
    try:
        while True:
            for index in graph.ready(finished, finished | late.keys() | set(running.values())):
                running[asyncio.create_task(_awaited(run(index)), name=f"step {graph.names[index]}")] = index
            if not running:
                break
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=running.__getitem__):
                error = None if task.cancelled() else task.exception()
                if isinstance(error, NoTimeLeft):
                    late[running[task]] = error
                elif task.cancelled() or error is not None:
                    halt(f"cancelled because step {graph.names[running[task]]!r} failed")
                    task.result()
            finished.update(index for task in done if (index := running.pop(task)) not in late)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in running:  # an error beside the first one is no news
            _ = task.cancelled() or task.exception()
    if late:
        raise late[min(late)]


async def _awaited(step: Awaitable[None]) -> None:
    await step
