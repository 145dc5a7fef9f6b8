"""Everything that the controller knows, kept current by reflectors and kopf, and the calls by which it changes it."""

from typing import Protocol

from msgspec import Struct

from agenttask.controller.inventory import Inventory
from agenttask.controller.pod_cache import PodCache
from agenttask.controller.surroundings import Models, Presence
from agenttask.controller.task_cache import TaskCache
from agenttask.controller.wakeups import Wakeups


class World(Struct, frozen=True, kw_only=True):
    """The caches."""

    tasks: TaskCache
    pods: PodCache
    models: Models
    inputs: Presence
    inventory: Inventory
    wakeups: Wakeups


class Writer(Protocol):
    """The calls to the API server that a pass makes (KubeClient)."""

    async def get(self, path: str) -> bytes:
        """One object."""
        ...

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection."""
        ...

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """DELETE with a uid precondition."""
        ...

    async def patch_status(self, path: str, body: bytes) -> bytes:
        """Merge-patch the status."""
        ...
