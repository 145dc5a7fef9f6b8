"""F10: two controllers at once. Names and uids keep them apart, not a lock alone."""

import asyncio

from tests.faults.arena import Open
from tests.faults.lives import ends, live


async def test_two_controllers_do_everything_once(run: Open) -> None:
    """Both look at the same tasks, from the start and to the end."""
    async with run() as (here, _, _):
        second, _, _ = await here.add_controller("second")
        await here.run(second)
        await live(here)
        await here.judge(ends())


async def test_one_is_stopped_in_mid_sentence_and_wakes_up_in_another_world(run: Open) -> None:
    """SIGSTOP under load: it goes on with what it believed, while the other one has done it."""
    async with run() as (here, proxy, _):
        second, _, _ = await here.add_controller("second")
        await live(here, "succeed", "fail")
        await proxy.until(lambda seen: any(one.key == "POST pods/fail-1" for one in seen))
        here.controller.pause()
        starting = asyncio.create_task(here.run(second))
        await live(here, "long", "again", "waits", suffix="-2")
        await starting
        here.controller.go_on()
        await here.judge(ends("succeed", "fail") | ends("long", "again", "waits", suffix="-2"))


async def test_they_take_turns_dying(run: Open) -> None:
    async with run() as (here, _, _):
        second, _, _ = await here.add_controller("second")
        await here.run(second)
        living = asyncio.create_task(live(here))
        for _ in range(2):
            for one in (here.controller, second):
                await asyncio.sleep(0.3)
                await one.kill()
                await one.ready()
        await living
        await here.judge(ends())
