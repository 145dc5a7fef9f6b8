"""Which of the watched namespaces are known whole: one that is forbidden holds up its own tasks, and no other's."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from typing import Any, Final

from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import Forbidden, KubeError
from agenttask.controller.reflector import Reflector
from agenttask.controller.sweep import load_models, load_tasks
from agenttask.controller.world import World

logger: Final = logging.getLogger(__name__)
PATIENCE_SECONDS: Final = 10.0
"""A right that is granted beside the controller's start may come a little later."""
MOST_DELAY: Final = 30.0


class Namespaces:
    """The first lists of each: models, tasks and what `reflectors` mirror.

    `take` takes a task in as the stream does, and leaves out those of namespaces that are `held`; `clock` counts seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        names: Sequence[str | None],
        reflectors: Sequence[Reflector[Any]],
        world: World,
        take: Callable[[str | None, dict[str, Any]], None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._client, self._names, self._reflectors, self._world, self._take = client, names, reflectors, world, take
        self._clock = clock
        self._forbidden: dict[str | None, str] = {}
        """Why the last list of models or tasks was refused."""
        self.known: list[str | None] = []
        """Listed whole, once."""
        self.held: set[str] = set()
        """Those that the others went on without: their tasks are not taken in, because what they have already done is unknown."""

    async def run(self) -> None:
        """List all of them, however long one takes."""
        async with asyncio.TaskGroup() as group:
            for name in self._names:
                group.create_task(self._learn(name))

    async def workable(self) -> None:
        """Wait for all; for those that stay forbidden no longer than `PATIENCE_SECONDS`, once there is another one."""
        since = None
        while len(self.known) < len(self._names):
            missing = [name for name in self._names if name not in self.known]
            if not self.known or not all(self._refusal(name) for name in missing):
                since = None
            elif since is None:
                since = self._clock()
            elif self._clock() - since >= PATIENCE_SECONDS:
                self._hold(missing)
                return
            await asyncio.sleep(0.05)

    def refusals(self) -> dict[str | None, str]:
        """Namespaces that are forbidden now, and what of them."""
        found = ((name, self._refusal(name)) for name in self._names)
        return {name: refusal if name is None else f"namespace {name}: {refusal}" for name, refusal in found if refusal is not None}

    def all_of(self, names: Collection[str | None]) -> bool:
        """Whether these are all that are watched."""
        return all(name in names for name in self._names)

    def mirrors(self, name: str | None) -> Iterator[Reflector[Any]]:
        """The reflectors of a namespace."""
        return (one for one in self._reflectors if name is None or f"/namespaces/{name}/" in one.path)

    def _hold(self, names: Sequence[str | None]) -> None:
        self.held = {name for name in names if name is not None}
        for uid in self._world.tasks:
            task = self._world.tasks.get(uid)
            if task is not None and task.namespace in self.held:
                self._world.tasks.drop(uid)
        for name in self.held:
            logger.warning("namespace %s is not served yet, its tasks wait: %s", name, self._refusal(name))
        self._settle()

    def _refusal(self, name: str | None) -> str | None:
        mirrored = (f"{one.path} is forbidden" for one in self.mirrors(name) if one.forbidden)
        return self._forbidden.get(name) or next(mirrored, None)

    async def _learn(self, name: str | None) -> None:
        await self._load("AgentModels", name, lambda: load_models(self._client, [name], self._world.models))
        await self._load("AgentTasks", name, lambda: load_tasks(self._client, [name], self._take))
        for reflector in self.mirrors(name):
            await reflector.synced.wait()
        late = name in self.held
        if late and name is not None:
            self.held.discard(name)
            await self._load("AgentTasks", name, lambda: load_tasks(self._client, [name], self._take))
            logger.info("namespace %s is served now", name)
        self.known.append(name)
        if late or len(self.known) == len(self._names):
            self._settle()

    def _settle(self) -> None:
        """Pods that have ended are kept where it is not known yet whose they are, and nowhere else."""
        self._world.pods.settle({name for name in self._names if name is not None and name not in self.known})
        for reflector in self._reflectors:
            reflector.prune()

    async def _load(self, what: str, name: str | None, load: Callable[[], Coroutine[Any, Any, None]]) -> None:
        delay = 1.0
        while True:
            try:
                await load()
            except KubeError as error:
                if isinstance(error, Forbidden):
                    self._forbidden[name] = str(error)
                else:
                    self._forbidden.pop(name, None)
                logger.warning("cannot list %s yet: %s; again in %.0f s", what, error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, MOST_DELAY)
            else:
                self._forbidden.pop(name, None)
                return
