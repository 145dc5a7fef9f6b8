"""In which order steps run: ready ones in the order of the spec, as many at once as allowed.

The first failure ends the task: no step starts any more, running ones are cancelled and have ended when this returns.
Nobody pays for model calls of a task that has failed already; what a user wants in any case, she writes as two tasks.
"""

import asyncio
from collections.abc import Awaitable, Callable

from agenttask.domain.graph import StepGraph


async def run_in_order(
    graph: StepGraph,
    *,
    limit: int,
    run: Callable[[int], Awaitable[None]],
    halt: Callable[[str], None],
) -> None:
    """Run every step of the graph.

    Args:
        graph: which step waits for which.
        limit: how many run at once.
        run: runs one step by its index; an exception of it is a failure.
        halt: told why, before running steps are cancelled.

    Raises:
        Exception: the first failure; of several at the same moment the one of the earliest step.
    """
    running: dict[asyncio.Task[None], int] = {}
    finished: set[int] = set()
    try:
        while len(finished) < len(graph.names):
            ready = graph.ready(finished, finished | set(running.values()))
            for index in ready[: limit - len(running)]:
                running[asyncio.create_task(_awaited(run(index)), name=f"step {graph.names[index]}")] = index
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=running.__getitem__):
                if task.cancelled() or task.exception() is not None:
                    halt(f"cancelled because step {graph.names[running[task]]!r} failed")
                    task.result()
            finished.update(running.pop(task) for task in done)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _awaited(step: Awaitable[None]) -> None:
    await step
