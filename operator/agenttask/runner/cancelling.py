"""A background task is ended by whoever began it."""

import asyncio


async def cancel(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait until it has ended; None is one that never began.

    The task itself is not awaited: its cancellation could not be told from that of whoever waits here.

    Raises:
        Exception: what the task ended with, where that was not the cancellation.
    """
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
