"""F10: two controllers at once, two replicas of one, and a leader that dies, sleeps, or is ousted; clocks are test_clocks.py's."""

import asyncio
import logging
import signal
import time
from typing import Final

import pytest

from tests.faults.api import Object
from tests.faults.arena import Arena, Open
from tests.faults.controller import ControllerProcess
from tests.faults.eventually import eventually
from tests.faults.lives import ends, live
from tests.faults.soak import SOAK

logger: Final = logging.getLogger(__name__)
LEASE: Final = 10
"""Seconds: its holder keeps it though it gets no processor for most of them."""


async def test_two_controllers_do_everything_once(run: Open) -> None:
    """Without election both look at the same tasks, from the start and to the end: names and uids keep them apart."""
    async with run() as (here, _, _):
        second, _, _ = await here.add_controller("second")
        await here.run(second)
        await live(here)
        await here.judge(ends())


async def test_a_leader_that_slept_past_its_lease_writes_nothing_more_and_ends(run: Open) -> None:
    """SIGSTOP under load: it wakes up with what it believed, while another one leads and does it."""
    async with run(lease=LEASE) as (here, proxy, _):
        sleeper = here.controller
        second, _, _ = await here.add_replica(LEASE)
        await live(here, "succeed", "fail", "late")
        await proxy.until(lambda seen: {f"POST pods/{name}-1" for name in ("succeed", "fail", "late")} <= {one.key for one in seen})
        sleeper.pause()
        living = asyncio.create_task(live(here, "long", "again", "waits", "late", suffix="-2"))
        await second.ready()
        told = len(proxy.seen)
        sleeper.go_on()
        await eventually(lambda: ended(sleeper), what="the end of the leader that slept")
        await living
        await here.judge(ends("succeed", "fail", "late") | ends("long", "again", "waits", "late", suffix="-2"))
        assert [one.key for one in proxy.seen[told:] if one.mutating] == []
        assert (sleeper.exits, second.exits) == ([1], [])
        assert "lost lease" in sleeper.log


@pytest.mark.parametrize(("how", "lease"), [(signal.SIGTERM, 60), (signal.SIGKILL, LEASE)], ids=["SIGTERM", "SIGKILL"])
async def test_a_replica_goes_on_when_the_leader_ends(run: Open, how: signal.Signals, lease: int) -> None:
    """It is told so by SIGTERM, long before the lease is over, and finds out by the lease after SIGKILL."""
    async with run(lease=lease) as (here, proxy, _):
        second, _, _ = await here.add_replica(lease)
        living = asyncio.create_task(live(here))
        await proxy.until(lambda seen: sum(one.mutating for one in seen) >= 3)
        began = time.monotonic()
        await here.controller.stop(how=how)
        await second.ready()
        took = time.monotonic() - began
        logger.info("%s: another replica leads after %.1f s (lease %d s)", how.name, took, lease)
        assert took < (lease / 2 if how == signal.SIGTERM else lease + 60)  # not given back, it is over after 48 s at the earliest
        await living
        await here.judge(ends())
        assert second.exits == []


if SOAK:

    async def test_they_take_turns_dying(run: Open) -> None:
        async with run(lease=LEASE) as (here, _, _):
            second, _, _ = await here.add_replica(LEASE)
            living = asyncio.create_task(live(here))
            for one in (here.controller, second) * 3:
                await asyncio.sleep(0.5)
                await one.kill()
                await eventually(lambda: leads(here.controller, second), what="another leader")
            await living
            await here.judge(ends())


async def test_a_lease_that_is_deleted_is_held_by_one_of_them_again(run: Open) -> None:
    async with run(lease=LEASE) as (here, proxy, _):
        second, _, _ = await here.add_replica(LEASE)
        living = asyncio.create_task(live(here, "long", "again", "waits", "late"))
        await proxy.until(lambda seen: sum(one.mutating for one in seen) >= 2)
        old = await here.lease()
        await here.delete_lease()
        await eventually(lambda: held_anew(here, old), what="a new lease")
        await living
        await here.judge(ends("long", "again", "waits", "late"))
        assert {*here.controller.exits, *second.exits} <= {1}
        assert len(here.controller.exits + second.exits) <= 1, "whoever lost it, and no other"


async def ended(controller: ControllerProcess) -> bool:
    """Whether it has ended by itself."""
    return bool(controller.exits)


async def leads(*controllers: ControllerProcess) -> bool:
    """Whether one of them is ready to decide, in its current life."""
    return any(one.decides() for one in controllers)


async def held_anew(here: Arena, old: Object | None) -> bool:
    """Whether somebody holds another lease than this one."""
    lease = await here.lease()
    return (
        lease is not None
        and old is not None
        and lease["metadata"]["uid"] != old["metadata"]["uid"]
        and bool(lease["spec"]["holderIdentity"])
    )
