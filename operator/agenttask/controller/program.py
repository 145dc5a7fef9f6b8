"""The running controller: events in, keys to the drivers; everything it starts, it stops."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from agenttask.controller.drivers import Reconcile, drive_many
from agenttask.controller.expiry import Expiry
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import KubeError
from agenttask.controller.probes import STALE_SECONDS
from agenttask.controller.reflector import Reflector
from agenttask.controller.sweep import Sweeper, load_models
from agenttask.controller.task_cache import read_task
from agenttask.controller.workqueue import WorkQueue
from agenttask.controller.world import World

logger: Final = logging.getLogger(__name__)
NODES_SECONDS: Final = 10.0
"""How long the first decision waits for nodes that may turn out to be forbidden."""
_STOP_SECONDS: Final = 3.0


class Controller:
    """kopf's listener. `failed` is set when something that must run has ended: the process is to exit and start anew.

    `ended` is kopf's stop flag, set by a failure and also by every other end: while it is not set, kopf leaves a task of its
    own that waits for it, and then waits five seconds for that task (kopf 1.45.2, seen by running it).
    """

    def __init__(
        self,
        *,
        world: World,
        queue: WorkQueue[str],
        reconcile: Reconcile,
        client: KubeClient,
        namespaces: Sequence[str | None],
        reflectors: Sequence[Reflector[Any]],
        nodes: Reflector[Any] | None,
        expiry: Expiry,
        background: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
        workers: int,
        clock: Callable[[], float],
    ) -> None:
        self._world, self._queue, self._reconcile, self._client = world, queue, reconcile, client
        self._namespaces, self._reflectors, self._nodes = namespaces, reflectors, nodes
        self._expiry, self._background, self._workers, self._clock = expiry, background, workers, clock
        self._tasks: list[asyncio.Task[None]] = []
        self._driving = False
        self.failed = asyncio.Event()
        self.ended = asyncio.Event()

    def task_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take the task in, or forget it, and have it looked at."""
        uid = str(body.get("metadata", {}).get("uid", ""))
        if kind == "DELETED":
            # Gone or final: either way there is nothing left to do. Its pod is the garbage collector's.
            self._world.tasks.drop(uid)
            self._queue.add(uid)
            return
        task = read_task(body)
        if task is not None and self._world.tasks.put(task):
            self._queue.add(uid)

    def model_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take the model in; tasks that waited for it are woken."""
        if kind == "DELETED":
            metadata = body.get("metadata", {})
            self._world.models.remove(str(metadata.get("namespace", "")), str(metadata.get("name", "")))
        else:
            self._world.models.put(body)

    async def start(self) -> None:
        """Start everything; decisions begin when the view is complete."""
        for reflector in (*self._reflectors, *([self._nodes] if self._nodes is not None else [])):
            self._spawn(reflector.run(), f"watch of {reflector.path}")
        self._spawn(self._drive(), "drivers")
        for name, run in self._background.items():
            self._spawn(run(), name)
        sweeper = Sweeper(self._client, self._namespaces, self._world.tasks, self._world.models, self._queue.add)
        self._spawn(sweeper.run(), "sweep")
        self._spawn(self._expiry.run(), "expiry")

    async def stop(self) -> None:
        """End everything, in seconds: what is under way is found again after a restart."""
        self._driving = False
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        self._tasks.clear()
        self.ended.set()

    def alive(self) -> str | None:
        """For /healthz."""
        return "a part of the controller has ended" if self.failed.is_set() else None

    def ready(self) -> str | None:
        """For /readyz."""
        if not self._driving:
            return "the first lists are not complete"
        now = self._clock()
        stale = next((one.path for one in self._reflectors if now - one.last_event > STALE_SECONDS), None)
        return f"the watch of {stale} has been silent for {STALE_SECONDS:.0f} s" if stale else self.alive()

    async def _drive(self) -> None:
        await self._load_models()
        for reflector in self._reflectors:
            await reflector.synced.wait()
        await self._wait_for_nodes()
        self._driving = True
        logger.info("ready: %d unfinished tasks so far, %d drivers", len(self._world.tasks), self._workers)
        await drive_many(self._workers, self._queue, self._reconcile)

    async def _load_models(self) -> None:
        delay = 1.0
        while True:
            try:
                await load_models(self._client, self._namespaces, self._world.models)
            except KubeError as error:
                logger.warning("cannot list AgentModels yet: %s; again in %.0f s", error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 30.0)
            else:
                return

    async def _wait_for_nodes(self) -> None:
        """The inventory is known once nodes are listed, and unknown where they are forbidden or switched off."""
        if self._nodes is None:
            return
        end = self._clock() + NODES_SECONDS
        while not self._nodes.synced.is_set() and not self._nodes.forbidden and self._clock() < end:  # noqa: ASYNC110 - three ends, two without an event
            await asyncio.sleep(0.05)
        known = self._nodes.synced.is_set()
        self._world.inventory.learn_nodes(known=known)
        if not known:
            logger.warning("nodes cannot be read: free devices are unknown, tasks take the class that they wish first")
            self._spawn(self._learn_nodes_later(self._nodes), "nodes")

    async def _learn_nodes_later(self, nodes: Reflector[Any]) -> None:
        await nodes.synced.wait()
        self._world.inventory.learn_nodes(known=True)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._queue_closed(task):
            return
        logger.error("%s ended: %r", task.get_name(), task.exception())
        self.failed.set()
        self.ended.set()

    def _queue_closed(self, task: asyncio.Task[None]) -> bool:
        """Drivers end by themselves when we stop, and the nodes' late news are told once."""
        return task.exception() is None and (task.get_name() == "nodes" or not self._driving)
