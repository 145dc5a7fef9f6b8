"""What time alone changes in the line, while the API server is slow to take what is written of it."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from agenttask.api.meta import ObjectMeta
from agenttask.controller import line_keeper
from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.line_keeper import LineKeeper
from agenttask.controller.queues import QueueObject, Queues


class Ticked:
    """A dispatcher that counts."""

    is_open = True

    def __init__(self) -> None:
        self.ticks = 0
        self.often = asyncio.Event()

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == 3:
            self.often.set()

    def counts(self, namespace: str, queue: str) -> tuple[int, int, float | None]:
        return 1, 0, None


class Stuck:
    """An API server that has taken the request and does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def patch_status(self, path: str, body: bytes) -> bytes:
        self.asked.set()
        await asyncio.Event().wait()
        return b"{}"


async def test_a_status_that_is_slow_to_be_written_holds_up_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks came after the writes: a quota's next try and a lost node's release waited for up to 25 answers."""
    monkeypatch.setattr(line_keeper, "TICK_SECONDS", 0.001)
    queues, dispatcher, writer = Queues(lambda *_: None), Ticked(), Stuck()
    metadata: Any = msgspec.to_builtins(ObjectMeta(name="q", namespace="n", uid="u", generation=1))
    queues.on_change(None, msgspec.convert({"metadata": metadata}, QueueObject))
    keeper = LineKeeper(
        queues=queues,
        dispatcher=cast("Dispatcher", dispatcher),
        classes=["cpu"],
        writer=writer,
        per_second=5,
        clock=lambda: 1_800_000_000.0,
    )
    running = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(60):
            await writer.asked.wait()
            dispatcher.ticks = 0
            dispatcher.often.clear()
            await dispatcher.often.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
