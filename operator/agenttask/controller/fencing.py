"""Writes that only the leader makes: each one begins only while enough of the lease is left."""

from collections.abc import Callable

from agenttask.controller.kube import KubeClient
from agenttask.controller.leadership import NotLeading


class Fenced:
    """The calls of a pass on a client; reads always pass."""

    def __init__(self, client: KubeClient, leading: Callable[[], bool]) -> None:
        self._client, self._leading = client, leading

    async def get(self, path: str) -> bytes:
        """One object."""
        return await self._client.get(path)

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection.

        Raises:
            NotLeading: before anything was sent.
        """
        self._check("POST", path)
        return await self._client.create(path, body)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """DELETE with a uid precondition.

        Raises:
            NotLeading: before anything was sent.
        """
        self._check("DELETE", path)
        await self._client.delete(path, uid=uid, grace_seconds=grace_seconds)

    async def patch(self, path: str, body: bytes) -> bytes:
        """Merge-patch an object.

        Raises:
            NotLeading: before anything was sent.
        """
        self._check("PATCH", path)
        return await self._client.patch(path, body)

    async def patch_status(self, path: str, body: bytes) -> bytes:
        """Merge-patch a status.

        Raises:
            NotLeading: before anything was sent.
        """
        self._check("PATCH", path)
        return await self._client.patch_status(path, body)

    def _check(self, method: str, path: str) -> None:
        if not self._leading():
            raise NotLeading(0, "NotLeading", f"{method} {path} not sent: this replica does not hold the lease")
