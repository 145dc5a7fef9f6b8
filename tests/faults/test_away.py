"""F11, and real parts restarted: what happens while the controller or the API server is away is caught up with."""

import asyncio

from tests.fakes.grace_period import GRACE_SECONDS
from tests.faults.arena import Open
from tests.faults.checker import End
from tests.faults.eventually import PATIENCE
from tests.faults.lives import SUCCEEDED, ends, live
from tests.faults.paths import path
from tests.faults.soak import MANY, SOAK


async def test_tasks_made_changed_and_deleted_while_the_controller_is_down(run: Open) -> None:
    async with run() as (here, _, _):
        await here.create("before")
        await here.recorder.until_phase("before", "Succeeded")
        await here.controller.stop()
        names = [f"t-{number}" for number in range(MANY)]
        for start in range(0, len(names), 50):
            await asyncio.gather(*(here.create(name) for name in names[start : start + 50]))
        await here.api.patch(path("agenttasks", here.namespace, names[0]), {"metadata": {"labels": {"changed": "yes"}}})
        gone = names[::5]
        await asyncio.gather(*(here.delete(name) for name in gone))
        await here.controller.start()
        await here.controller.ready()
        expected = {name: End(gone=True) if name in gone else SUCCEEDED for name in names} | {"before": SUCCEEDED}
        await here.judge(expected, seconds=PATIENCE + MANY / 10)
        assert not any(here.recorder.ever(name) for name in gone)
        assert here.controller.restarts == 0


async def test_sigterm_ends_it_within_its_grace_and_leaves_all_to_the_next(run: Open) -> None:
    async with run() as (here, _, _):
        living = asyncio.create_task(live(here, "long", "waits", "succeed"))
        await here.recorder.until(lambda: here.recorder.pods("long"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        await here.controller.stop(how=15)
        assert loop.time() - began < GRACE_SECONDS
        await here.controller.start()
        await living
        await here.judge(ends("long", "waits", "succeed"))
        assert here.controller.starts == 2


if SOAK:

    async def test_the_api_server_is_killed_and_comes_back(run: Open) -> None:
        """All that was under way ends as it would have; the controller itself lives on."""
        async with run() as (here, proxy, _):
            await live(here, "succeed")
            await here.recorder.until_phase("succeed", "Succeeded")
            living = asyncio.create_task(live(here, "long", "waits", "deleted", "late"))
            await proxy.until(lambda seen: any(one.method == "POST" and one.plural == "pods" for one in seen))
            here.stage.kill("kube-apiserver")
            await asyncio.sleep(2.0)
            here.stage.start_api_server()
            await here.stage.until_ready(here.api)
            await living
            await here.judge(ends("succeed", "long", "waits", "deleted", "late"))
            assert here.controller.restarts == 0, here.controller.log[-3000:]
