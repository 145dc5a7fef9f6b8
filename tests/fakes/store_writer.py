"""The fake API server's store as a writer in this process: no sockets, every call noted, faults on wish."""

import msgspec

from agenttask.controller.kube_errors import KubeError, from_answer
from tests.fakes.apiserver_refusal import Refusal
from tests.fakes.apiserver_resources import Target, resolve
from tests.fakes.apiserver_store import Store


class StoreWriter:
    """`calls` are methods in their order; `fail` are raised by the next calls, one each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[str] = []
        self.fail: list[KubeError] = []

    async def get(self, path: str) -> bytes:
        """One object."""
        return self._call("GET", path, None)

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection."""
        return self._call("POST", path, body)

    async def patch(self, path: str, body: bytes) -> bytes:
        """Merge-patch an object."""
        return self._call("PATCH", path, body)

    def _call(self, method: str, path: str, body: bytes | None) -> bytes:
        self.calls.append(method)
        if self.fail:
            raise self.fail.pop(0)
        target = resolve(path)
        assert isinstance(target, Target), path
        try:
            match method:
                case "GET":
                    found = self._store.get(target)
                case "POST":
                    found = self._store.create(target, msgspec.json.decode(body or b""))
                case _:
                    found = self._store.patch(target, msgspec.json.decode(body or b""))
        except Refusal as refusal:
            raise from_answer(refusal.code, msgspec.json.encode(refusal.status)) from refusal
        return msgspec.json.encode(found)
