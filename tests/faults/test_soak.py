"""F20 in small: random faults of F3 to F8 at one request in a hundred, kills now and then; each round has its seed.

A round that fails prints its seed; AGENTTASK_FAULTS_SEED replays it alone.
"""

import asyncio
import random

import pytest

from tests.faults import stream_faults as streams
from tests.faults.arena import Arena, Open
from tests.faults.checker import End
from tests.faults.eventually import PATIENCE
from tests.faults.lives import LIVES, ends, live
from tests.faults.plan import Fault, Plan, listing, watching, writes
from tests.faults.request_faults import answered, late_answer, lost_answer, refused, slow_body
from tests.faults.soak import REPLAYED, ROUNDS, SEED, SOAK

CHANCE = 0.01 if SOAK else 0.1
WAVES = 10 if SOAK else 2
REQUESTS: tuple[Fault, ...] = (
    lost_answer,
    refused,
    answered(429, "TooManyRequests", retry_after=1),
    answered(500, "InternalError"),
    answered(503, "ServiceUnavailable"),
    answered(504, "Timeout"),
    answered(409, "Conflict"),
    late_answer(2.0),
)
STREAMS: tuple[Fault, ...] = (
    streams.expired(after=3),
    streams.cut_in_json(after=3),
    streams.ended(after=5),
    streams.streaming(streams.repeated_lines),
    streams.streaming(streams.reordered_lines),
)


def scatter(plan: Plan) -> None:
    """Each fault with its share of the chance; streams are few, so they are hit more often."""
    for fault in REQUESTS:
        plan.add(writes, fault, times=None, chance=CHANCE)
    for fault in STREAMS:
        plan.add(watching(), fault, times=None, chance=0.1)
    plan.add(listing(), slow_body(chunk=4096), times=None, chance=0.1)


async def kill_now_and_then(here: Arena, chance: random.Random) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(chance.uniform(5.0, 30.0))
        await here.controller.kill()
        await here.controller.ready()


@pytest.mark.parametrize("number", range(ROUNDS if SOAK and not REPLAYED else 1))
async def test_random_faults(run: Open, number: int) -> None:
    chosen = SEED + number
    async with run(number=chosen) as (here, _, plan):
        scatter(plan)
        expected: dict[str, End] = {}
        killing = asyncio.create_task(kill_now_and_then(here, random.Random(chosen))) if SOAK else None
        names = [*LIVES] if SOAK else ["succeed", "fail", "waits", "long", "evicted"]
        for wave in range(WAVES):
            expected |= ends(*names, suffix=f"-{wave}")
            await live(here, *names, suffix=f"-{wave}")
        if killing is not None:
            killing.cancel()
        plan.clear()
        await here.judge(expected)


if SOAK:

    async def test_streams_that_fall_silent_are_opened_again(run: Open) -> None:
        """F6: open connections that say nothing for ever, on all kinds: noticed after a minute and a half at the latest."""
        async with run(start=False) as (here, _, plan):
            for kind in ("agenttasks", "agentmodels", "pods"):
                plan.add(watching(kind), streams.silent())
            await here.run(here.controller)
            await live(here, "succeed", "fail")
            await here.judge(ends("succeed", "fail"), seconds=90 + PATIENCE)
            assert here.controller.restarts == 0
