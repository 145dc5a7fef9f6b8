"""The watch on the controller's loop ends before what it reads is closed."""

import asyncio

from bench.control.probe import TICK_SECONDS, Ticks


async def test_stopped_ticks_read_nothing_any_more() -> None:
    reads = 0

    def waited() -> float:
        nonlocal reads
        reads += 1
        return 0.0

    ticks = Ticks(waited)
    async with asyncio.timeout(60):
        while reads < 2:  # noqa: ASYNC110 - ticks set no event
            await asyncio.sleep(TICK_SECONDS / 2)
    ticks.stop()
    before = reads
    await asyncio.sleep(2 * TICK_SECONDS)
    assert (before > 1, reads) == (True, before)
