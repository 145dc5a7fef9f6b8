"""A replica that loses the lead ends, whatever it was doing; one that has not got it yet keeps nothing for good."""

import asyncio

import aiohttp
import msgspec
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller.inventory import Inventory
from agenttask.controller.kube import KubeClient
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.program import Controller
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache
from agenttask.controller.wakeups import Wakeups
from agenttask.controller.wire import Pod
from agenttask.controller.workqueue import WorkQueue
from agenttask.controller.world import World


class Standby:
    """A lead that others have."""

    def __init__(self) -> None:
        self.acquired = asyncio.Event()
        self.released = False

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        self.released = True


class Brief(Standby):
    """A lead that is lost as soon as it is had."""

    async def run(self) -> None:
        self.acquired.set()


def controller(client: KubeClient, leadership: Standby, line_up: float = 0.0) -> Controller:
    async def lining_up() -> None:
        await asyncio.sleep(line_up)

    async def reconcile(_: str) -> float | None:
        return None

    inventory = Inventory((), lambda: None)
    tasks = TaskCache()
    pods = PodCache(inventory=inventory, is_open=lambda uid: tasks.get(uid) is not None, wake=lambda _: None)
    return Controller(
        world=World(
            tasks=tasks,
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
        async with asyncio.timeout(60):
            await one.failed.wait()

        assert one.alive() == "a part of the controller has ended"
        await one.stop()
        assert leadership.released


async def test_a_standby_forgets_the_pods_of_a_task_that_is_gone() -> None:
    """It takes no keys, so nobody else would: each eviction would stay in its memory until it leads."""
    async with aiohttp.ClientSession() as session:
        one = controller(KubeClient(session, "http://127.0.0.1:1"), Standby())
        body = {"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": {"steps": [{"name": "s", "exec": {"command": ["true"]}}]}}
        owners = [{"kind": "AgentTask", "uid": "u", "controller": True}]
        pod = msgspec.convert({"metadata": {"name": "a-1", "uid": "p", "ownerReferences": owners}}, Pod)
        one.task_event("ADDED", body)
        one._world.pods.on_change(None, pod)
        one._world.pods.on_change(pod, None)
        assert one._world.pods.get("u", "a-1") is not None  # its last words: this replica may lead before they are written

        one.task_event("DELETED", body)

        assert one._world.pods.get("u", "a-1") is None
