"""Drivers: one a key, and what a failure of one key costs the others."""

import asyncio
import logging

import pytest
from tests.fakes.virtual_time import in_virtual_time

from agenttask.controller.backoff import Backoff
from agenttask.controller.drivers import drive, drive_many
from agenttask.controller.kube_errors import Conflict, TooManyRequests, Unreachable
from agenttask.controller.workqueue import WorkQueue


@pytest.fixture
async def queue() -> WorkQueue[str]:
    return WorkQueue(backoff=Backoff(initial=0.001, maximum=0.002))


async def test_a_key_is_with_one_driver_at_a_time(queue: WorkQueue[str]) -> None:
    held: set[str] = set()
    passes = []

    async def reconcile(key: str) -> float | None:
        assert key not in held
        held.add(key)
        queue.add(key)  # as an event of it would, while a driver has it
        await asyncio.sleep(0.001)
        held.discard(key)
        passes.append(key)
        if len(passes) >= 60:
            queue.close()
        return None

    for key in "abc":
        queue.add(key)
    await asyncio.wait_for(drive_many(8, queue, reconcile), 10)

    assert set(passes) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("error", "level"),
    [(Conflict(409, "Conflict", "m"), logging.DEBUG), (Unreachable("m"), logging.WARNING), (ZeroDivisionError("a bug"), logging.ERROR)],
    ids=["conflict", "outage", "bug"],
)
async def test_a_key_that_failed_comes_again_and_stops_no_other(
    queue: WorkQueue[str], caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> float | None:
        seen.append(key)
        if seen.count("bad") == 3:
            queue.close()
        if key == "bad":
            raise error
        return None

    queue.add("bad")
    queue.add("good")
    with caplog.at_level(logging.DEBUG, "agenttask.controller.drivers"):
        await asyncio.wait_for(drive(queue, reconcile), 10)

    assert sorted(seen) == ["bad", "bad", "bad", "good"]
    assert {record.levelno for record in caplog.records} == {level}
    assert all("task bad" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("wish", "least", "most"), [(0.05, 0.05, 0.15), (None, 1.0, 2.1)])
@in_virtual_time
async def test_the_server_says_when_to_come_again(wish: float | None, least: float, most: float) -> None:
    queue: WorkQueue[str] = WorkQueue()
    times: list[float] = []

    async def reconcile(key: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 2:
            queue.close()
            return None
        raise TooManyRequests(429, "TooManyRequests", "m", retry_after=wish)

    queue.add("a")
    await asyncio.wait_for(drive(queue, reconcile, random=lambda: 0.5), 10)

    assert least <= times[1] - times[0] < most


async def test_a_key_may_ask_to_come_again(queue: WorkQueue[str]) -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> float | None:
        seen.append(key)
        if len(seen) == 3:
            queue.close()
        return 0.001

    queue.add("a")
    await asyncio.wait_for(drive(queue, reconcile), 10)

    assert seen == ["a"] * 3
