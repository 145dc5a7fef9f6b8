"""Lists beside kopf's stream: all models before the first decision, and now and then what may have vanished unseen.

kopf reports no deletion that happened while its watch was interrupted (kopf 1.45.2, seen by running it).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import KubeError
from agenttask.controller.kube_paths import models_path, tasks_path
from agenttask.controller.surroundings import Models
from agenttask.controller.task_cache import TaskCache
from agenttask.controller.wire import PartialObject

logger: Final = logging.getLogger(__name__)
SWEEP_SECONDS: Final = 300.0


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


class Sweeper:
    """Forgets what is not listed any more."""

    def __init__(
        self, client: KubeClient, namespaces: Sequence[str | None], tasks: TaskCache, models: Models, wake: Callable[[str], None]
    ) -> None:
        self._client, self._namespaces = client, namespaces
        self._tasks, self._models, self._wake = tasks, models, wake

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
        listed = {one.metadata.uid for one in await self._list(tasks_path)}
        for uid in tasks:
            if uid not in listed:
                self._tasks.drop(uid)
                self._wake(uid)
        named = {(one.metadata.namespace, one.metadata.name) for one in await self._list(models_path)}
        for namespace, name in models:
            if (namespace, name) not in named:
                self._models.remove(namespace, name)

    async def _list(self, path: Callable[[str | None], str]) -> list[PartialObject]:
        found: list[PartialObject] = []
        for namespace in self._namespaces:
            async for page in self._client.list(path(namespace), metadata_only=True):
                found += _decode_page(page).items or []
        return found
