"""The object store as a run uses it: one output, at the one place that is this attempt's, within a time."""

import asyncio
import hashlib
from typing import Final, Protocol

from agenttask.api.document import OutputStoreDocument, TaskDocument
from agenttask.api.errors import NotHandedOver, OutputTooLarge
from agenttask.api.output_store import object_url, output_key
from agenttask.api.report import ObjectReport

HAND_OVER_SECONDS: Final = 300.0
"""All tries together, and the time of the bytes besides; a stopped runner has less, and ends by itself."""
_BYTES_A_SECOND: Final = 1_000_000
"""The slowest way to a store that still is one."""


class Objects(Protocol):
    """Where objects are put."""

    async def put(self, key: str, content: bytes) -> None:
        """Write an object whole, or not at all; one of the same key is replaced.

        Raises:
            NotHandedOver: the store was away for as long as it is tried.
            OutputRejected: it refuses, or it cannot be used as it is set up.
        """
        ...


class OutputStore:
    """Of one attempt."""

    def __init__(self, task: TaskDocument, store: OutputStoreDocument, objects: Objects, *, seconds: float = HAND_OVER_SECONDS) -> None:
        self._store, self._objects, self._seconds = store, objects, seconds
        self._key = output_key(namespace=task.task.namespace, name=task.task.name, uid=task.task.uid, attempt=task.attempt)
        self.url = object_url(store.url, self._key)
        """Where the output goes."""

    @property
    def max_bytes(self) -> int:
        """What it takes."""
        return self._store.max_bytes

    async def keep(self, output: bytes) -> ObjectReport:
        """Leave the output there; what the report says of it.

        Raises:
            OutputTooLarge: it has more than the installation allows.
            NotHandedOver, OutputRejected: as `Objects.put`.
        """
        if len(output) > self.max_bytes:
            raise OutputTooLarge(
                f"the output has {len(output)} bytes, at most {self.max_bytes} are kept in {self._store.url} (outputStore.maxBytes); "
                "let `output` name a shorter text, or write it to a volume"
            )
        seconds = self._seconds + len(output) / _BYTES_A_SECOND
        digest = asyncio.create_task(asyncio.to_thread(_sha256, output))
        try:
            async with asyncio.timeout(seconds):
                await self._objects.put(self._key, output)
        except TimeoutError as error:
            raise NotHandedOver(f"the output ({len(output)} bytes) was not taken by {self.url} within {seconds:.0f} s") from error
        finally:
            sha256 = await digest
        return ObjectReport(self.url, len(output), sha256)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
