"""Lists beside kopf's stream: all models before the first decision, and now and then what may have vanished unseen.

kopf reports no deletion that happened while its watch was interrupted (kopf 1.45.2, seen by running it).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from agenttask.api.meta import ObjectMeta
from agenttask.controller.kopf_app import UNFINISHED
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import Forbidden, KubeError, NotFound
from agenttask.controller.kube_paths import models_path, task_path, tasks_path
from agenttask.controller.surroundings import Models
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.controller.wire import PartialObject
from agenttask.domain.moment import parse

logger: Final = logging.getLogger(__name__)
SWEEP_SECONDS: Final = 300.0
OVERDUE_SECONDS: Final = 60.0
"""A task of this age that no event has told of was missed."""


class _Page(msgspec.Struct):
    items: list[PartialObject] | None = None


_decode_page = msgspec.json.Decoder(_Page).decode


async def load_models(client: KubeClient, namespaces: Sequence[str | None], models: Models) -> None:
    """Take in every model there is; until then nobody can say which Secrets are theirs."""
    for namespace in namespaces:
        async for page in client.list(models_path(namespace)):
            bodies: list[dict[str, Any]] = msgspec.json.decode(page).get("items") or []
            for body in bodies:
                models.put(body)


async def load_tasks(client: KubeClient, namespaces: Sequence[str | None], take: Callable[[str | None, dict[str, Any]], None]) -> None:
    """Take in every unfinished task there is: the first turn goes to the first in the line, not to the first that kopf told of."""
    for namespace in namespaces:
        async for page in client.list(tasks_path(namespace), field_selector=UNFINISHED):
            bodies: list[dict[str, Any]] = msgspec.json.decode(page).get("items") or []
            for body in bodies:
                take(None, body)


class Sweeper:
    """Forgets what is not listed any more, and takes in what nobody told of."""

    def __init__(
        self,
        client: KubeClient,
        namespaces: Sequence[str | None],
        tasks: TaskCache,
        models: Models,
        wake: Callable[[str], None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._client, self._namespaces = client, namespaces
        self._tasks, self._models, self._wake, self._clock = tasks, models, wake, clock
        self.deaf = 0
        """How many sweeps in a row have found tasks that kopf's stream should have told of."""

    async def run(self) -> None:
        """Sweep every few minutes."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except KubeError as error:
                logger.warning("sweep failed: %s; again in %.0f s", error, SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Once. Only what was known before the list began can be missing from it."""
        tasks, models = list(self._tasks), self._models.names()
        found, seen = await self._list(tasks_path, UNFINISHED)
        listed = {one.metadata.uid: one.metadata for one in found}
        for uid in tasks:
            task = self._tasks.get(uid)
            if task is not None and uid not in listed and seen & {None, task.namespace}:
                self._tasks.drop(uid)
                self._wake(uid)
        await self._take_in([meta for uid, meta in listed.items() if self._tasks.get(uid) is None])
        found, seen = await self._list(models_path)
        named = {(one.metadata.namespace, one.metadata.name) for one in found}
        for namespace, name in models:
            if (namespace, name) not in named and seen & {None, namespace}:
                self._models.remove(namespace, name)

    async def _take_in(self, unknown: Sequence[ObjectMeta]) -> None:
        """Tasks that the stream should have told of long ago: a stream that says nothing looks like one with no news."""
        missed = 0
        for meta in unknown:
            if _age(meta, self._clock()) < OVERDUE_SECONDS:
                continue
            try:
                task = read_task(msgspec.json.decode(await self._client.get(task_path(meta.namespace, meta.name))))
            except NotFound:
                continue
            if task is not None and task.uid == meta.uid and self._tasks.put(task):
                missed += 1
                self._wake(task.uid)
        self.deaf = self.deaf + 1 if missed else 0
        if missed:
            logger.error("the stream of AgentTasks has not told of %d tasks (sweep %d in a row)", missed, self.deaf)

    async def _list(self, path: Callable[[str | None], str], selector: str | None = None) -> tuple[list[PartialObject], set[str | None]]:
        """What there is, and in which namespaces: of those that are forbidden nothing is known."""
        found: list[PartialObject] = []
        seen: set[str | None] = set()
        for namespace in list(self._namespaces):
            try:
                async for page in self._client.list(path(namespace), field_selector=selector, metadata_only=True):
                    found += _decode_page(page).items or []
            except Forbidden as error:
                logger.warning("sweep of %s left out: %s", path(namespace), error)
            else:
                seen.add(namespace)
        return found, seen


def _age(meta: ObjectMeta, now: float) -> float:
    created = parse(meta.creation_timestamp)
    return 0.0 if created is None else now - created
