"""Takes keys off the queue, a few at a time, and decides when a key that failed comes again."""

import asyncio
import logging
import random as randomness
from collections.abc import Awaitable, Callable
from typing import Final

from agenttask.controller.kube_errors import Conflict, KubeError, TooManyRequests
from agenttask.controller.workqueue import WorkQueue

logger: Final = logging.getLogger(__name__)
Reconcile = Callable[[str], Awaitable[float | None]]


async def drive(queue: WorkQueue[str], reconcile: Reconcile, *, random: Callable[[], float] = randomness.random) -> None:
    """Reconcile keys until the queue is closed; one key that breaks stops no other."""
    async for key in queue:
        try:
            after = await reconcile(key)
        except TooManyRequests as error:
            # Jitter on top of the server's wish: all its clients were told the same number.
            queue.add(key, after=(error.retry_after or 1.0) * (1.0 + random()))
        except KubeError as error:
            delay = queue.retry(key)
            level = logging.DEBUG if isinstance(error, Conflict) else logging.WARNING
            logger.log(level, "task %s: %s; again in %.1f s", key, error, delay)
        except Exception:  # a bug of ours or of a plugin: its task suffers, the others do not
            delay = queue.retry(key)
            logger.exception("task %s: reconciling failed; again in %.1f s", key, delay)
        else:
            queue.forget(key)
            if after is not None:
                queue.add(key, after=after)
        finally:
            queue.done(key)


async def drive_many(count: int, queue: WorkQueue[str], reconcile: Reconcile) -> None:
    """Several drivers side by side."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(drive(queue, reconcile))
