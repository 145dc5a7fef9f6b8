"""The running controller: events in, keys to the drivers; everything it starts, it stops."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from agenttask.controller.drivers import Reconcile, drive_many
from agenttask.controller.kube import KubeClient
from agenttask.controller.namespaces import Namespaces
from agenttask.controller.probes import STALE_SECONDS
from agenttask.controller.reflector import Reflector
from agenttask.controller.sweep import Sweeper
from agenttask.controller.task_cache import read_task
from agenttask.controller.workqueue import WorkQueue
from agenttask.controller.world import World

logger: Final = logging.getLogger(__name__)
NODES_SECONDS: Final = 10.0
"""How long the first decision waits for nodes that may turn out to be forbidden."""
DEAF_SWEEPS: Final = 2
"""In a row: one may be a stream that was late."""
STUCK_SECONDS: Final = 300.0
"""A watch that falls silent is opened anew after a third of this."""
_STOP_SECONDS: Final = 3.0


class Leads(Protocol):
    """Who of several controllers acts (Leadership)."""

    acquired: asyncio.Event

    async def run(self) -> None:
        """Stand for election and lead; ends when the lead is lost."""
        ...

    async def release(self) -> None:
        """Leave the lead to another replica."""
        ...


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
        leadership: Leads,
        line_up: Callable[[], Coroutine[Any, Any, None]],
        background: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
        duties: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
        workers: int,
        clock: Callable[[], float],
    ) -> None:
        self._world, self._queue, self._reconcile = world, queue, reconcile
        self._reflectors, self._nodes = reflectors, nodes
        self._namespaces = Namespaces(client, namespaces, reflectors, world, self.task_event, clock=clock)
        self._leadership, self._line_up = leadership, line_up
        self._background, self._duties = background, duties
        self._workers, self._clock = workers, clock
        self._sweeper = Sweeper(client, self._namespaces.known, world.tasks, world.models, self._look_at, clock=client.clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._synced = self._stopping = False
        self.failed = asyncio.Event()
        self.ended = asyncio.Event()

    def task_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take the task in, or forget it, and have it looked at."""
        metadata = body.get("metadata", {})
        uid = str(metadata.get("uid", ""))
        if kind == "DELETED":
            # Gone or final: either way there is nothing left to do. Its pod is the garbage collector's.
            self._world.tasks.drop(uid)
            self._look_at(uid)
            return
        task = read_task(body) if metadata.get("namespace") not in self._namespaces.held else None
        if task is not None and self._world.tasks.put(task):
            self._queue.add(uid)

    def model_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """Take the model in; tasks that waited for it are woken."""
        if kind == "DELETED":
            self._world.models.gone(body)
        else:
            self._world.models.put(body)

    def _look_at(self, uid: str) -> None:
        """Have a task looked at; what a standby knows of one that is gone it forgets at once, for it takes no keys."""
        if self._world.tasks.get(uid) is None:
            self._world.pods.forget_task(uid)
        self._queue.add(uid)

    async def start(self) -> None:
        """Start everything; decisions begin when the view is complete and this replica leads."""
        for reflector in (*self._reflectors, *([self._nodes] if self._nodes is not None else [])):
            self._spawn(reflector.run(), f"watch of {reflector.path}")
        self._spawn(self._namespaces.run(), "namespaces")
        self._spawn(self._drive(), "drivers")
        for name, run in self._background.items():
            self._spawn(run(), name)
        self._spawn(self._sweeper.run(), "sweep")

    async def stop(self) -> None:
        """End everything, in seconds: what is under way is found again after a restart."""
        self._stopping = True
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        self._tasks.clear()
        await self._leadership.release()
        self.ended.set()

    def alive(self) -> str | None:
        """For /healthz: what a restart would mend. An API server that is away is nothing of the kind."""
        if self.failed.is_set():
            return "a part of the controller has ended"
        if self._sweeper.deaf >= DEAF_SWEEPS:
            return f"the stream of AgentTasks has missed tasks in {self._sweeper.deaf} sweeps in a row"
        now = self._clock()
        stuck = next((one.path for one in self._reflectors if now - one.last_try > STUCK_SECONDS), None)
        return f"the watch of {stuck} has neither heard nor asked anything for {STUCK_SECONDS:.0f} s" if stuck else None

    def ready(self) -> str | None:
        """For /readyz."""
        refused = self._namespaces.refusals()
        if not self._synced:
            return "; ".join(["the first lists are not complete", *refused.values()])
        if self._namespaces.all_of(refused):
            return "; ".join(refused.values())
        now = self._clock()
        mirrors = (one for one in self._reflectors if not one.forbidden)
        stale = next((one.path for one in mirrors if now - one.last_event > STALE_SECONDS), None)
        return f"the watch of {stale} has been silent for {STALE_SECONDS:.0f} s" if stale else self.alive()

    def missing(self) -> str | None:
        """What is forbidden in some of the namespaces: the others are served."""
        return "; ".join(self._namespaces.refusals().values()) or None

    async def _drive(self) -> None:
        await self._namespaces.workable()
        await self._wait_for_nodes()
        self._synced = True
        # A standby that is not ready to work must not take the lease from one that is.
        self._spawn(self._leadership.run(), "leadership")
        await self._leadership.acquired.wait()
        self._queue.open()
        await self._line_up()
        for uid in self._world.tasks:
            self._queue.add(uid)
        for name, run in self._duties.items():
            self._spawn(run(), name)
        logger.info("ready: %d unfinished tasks so far, %d drivers", len(self._world.tasks), self._workers)
        await drive_many(self._workers, self._queue, self._reconcile)

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
        if task.cancelled() or self._is_over(task):
            return
        logger.error("%s ended: %r", task.get_name(), task.exception())
        self.failed.set()
        self.ended.set()

    def _is_over(self, task: asyncio.Task[None]) -> bool:
        """Drivers end by themselves when we stop, first lists and nodes when they are known; a lead that is lost is a failure."""
        return task.exception() is None and (task.get_name() in ("namespaces", "nodes") or self._stopping)
