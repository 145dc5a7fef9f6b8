"""A replica that loses the lead ends, whatever it was doing."""

import asyncio

import aiohttp
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller.inventory import Inventory
from agenttask.controller.kube import KubeClient
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.program import Controller
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.workqueue import WorkQueue
from agenttask.controller.world import World


class Brief:
    """A lead that is lost as soon as it is had."""

    def __init__(self) -> None:
        self.acquired = asyncio.Event()
        self.released = False

    async def run(self) -> None:
        self.acquired.set()

    async def release(self) -> None:
        self.released = True


def controller(client: KubeClient, leadership: Brief, line_up: float) -> Controller:
    async def lining_up() -> None:
        await asyncio.sleep(line_up)

    async def reconcile(_: str) -> float | None:
        return None

    inventory = Inventory((), lambda: None)
    pods = PodCache(inventory=inventory, is_open=lambda _: False, wake=lambda _: None)
    return Controller(
        world=World(
            tasks=TaskCache(),
            pods=pods,
            models=Models(lambda _: None),
            inputs=Presence(lambda _: None),
            inventory=inventory,
            wakeups=Wakeups(),
        ),
        queue=WorkQueue(taking=False),
        reconcile=reconcile,
        client=client,
        namespaces=(None,),
        reflectors=(),
        nodes=None,
        leadership=leadership,
        line_up=lining_up,
        background={},
        duties={},
        workers=1,
        clock=asyncio.get_running_loop().time,
    )


async def test_a_lead_that_is_lost_while_tasks_are_lined_up_ends_the_process() -> None:
    """Else a replica without the lease would go on for ever: it writes nothing, and stands for no election."""
    async with FakeApiServer() as server, aiohttp.ClientSession() as session:
        leadership = Brief()
        one = controller(KubeClient(session, server.url), leadership, line_up=0.05)
        await one.start()
        async with asyncio.timeout(5):
            await one.failed.wait()

        assert one.alive() == "a part of the controller has ended"
        await one.stop()
        assert leadership.released
