"""The items of one `forEach`: `parallelism` of them at once, started in their order.

The first failure that is not kept ends the step: no item starts any more, running ones are cancelled. A soft deadline
starts no more either, but lets the running ones end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from agenttask.api.errors import NoTimeLeft


async def run_items(positions: Iterable[int], *, parallelism: int, run: Callable[[int], Awaitable[None]]) -> None:
    """Run every item by its position.

    Raises:
        Exception: the first failure; of several at the same moment the one of the earliest worker.
    """
    left = iter(positions)
    late: list[NoTimeLeft] = []

    async def worker() -> None:
        for position in left:  # shared: each worker takes the next one
            if late:
                return
            try:
                await run(position)
            except NoTimeLeft as error:
                late.append(error)
                return

    workers = [asyncio.create_task(worker()) for _ in range(parallelism)]
    try:
        await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        for each in workers:
            if each.done():
                each.result()
    finally:
        for each in workers:
            each.cancel()
        await asyncio.wait(workers)
        for each in workers:  # an error beside the first one is no news
            _ = each.cancelled() or each.exception()
    if late:
        raise late[0]
