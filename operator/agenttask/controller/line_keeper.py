"""What time alone changes: breakers that close, places in the line, and the status of queues, written when it is another.

A queue's status is compared with what the API server has, so a restart writes nothing that stands there already. `pending`
and `running` may change a hundred times a second: they are written every few seconds, and not at all while they stay.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from agenttask.api.queue import AgentQueueStatus
from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.kube_errors import KubeError, NotFound
from agenttask.controller.kube_paths import queue_path
from agenttask.controller.queues import QueueObject, Queues
from agenttask.domain.moment import render

logger: Final = logging.getLogger(__name__)
TICK_SECONDS: Final = 1.0
STATUS_SECONDS: Final = 5.0
"""A queue's status is written so often at most."""
REFUSED_SECONDS: Final = 60.0
"""After a write that the API server did not take."""


class StatusWriter(Protocol):
    """The one call that this needs (KubeClient)."""

    async def patch_status(self, path: str, body: bytes) -> bytes:
        """Merge-patch the status."""
        ...


class LineKeeper:
    """Runs beside the drivers; `clock` in Unix seconds."""

    def __init__(self, *, queues: Queues, dispatcher: Dispatcher, writer: StatusWriter, clock: Callable[[], float]) -> None:
        self._queues, self._dispatcher, self._writer, self._clock = queues, dispatcher, writer, clock
        self._written: dict[str, AgentQueueStatus] = {}
        """By uid; the watch brings it back later."""
        self._not_before = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._dispatcher.tick()
            await self.write(self._clock())

    async def write(self, now: float) -> None:
        """Write the statuses that are due and that changed."""
        if now < self._not_before or not self._dispatcher.is_open:
            return
        self._not_before = now + STATUS_SECONDS
        queues = list(self._queues)
        self._written = {one.metadata.uid: self._written.get(one.metadata.uid, one.status) for one in queues}
        for one in queues:
            status = self._status(one)
            if status != self._written[one.metadata.uid] and not await self._put(one, status):
                return

    def _status(self, queue: QueueObject) -> AgentQueueStatus:
        running, pending, oldest = self._dispatcher.counts(queue.metadata.namespace, queue.metadata.name)
        return AgentQueueStatus(
            observed_generation=queue.metadata.generation,
            running=running,
            pending=pending,
            oldest_pending_time=render(oldest) if oldest is not None else None,
        )

    async def _put(self, queue: QueueObject, status: AgentQueueStatus) -> bool:
        """Whether to go on with other queues."""
        body = {name: getattr(status, name) for name in status.__struct_fields__}
        patch = msgspec.json.encode({"status": {_FIELDS[name]: value for name, value in body.items()}})
        try:
            await self._writer.patch_status(queue_path(queue.metadata.namespace, queue.metadata.name), patch)
        except NotFound:
            pass  # it went just now, as the watch will tell
        except KubeError as error:
            logger.warning("status of AgentQueue %s/%s: %s", queue.metadata.namespace, queue.metadata.name, error)
            self._not_before = self._clock() + REFUSED_SECONDS
            return False
        self._written[queue.metadata.uid] = status
        return True


_FIELDS: Final = {field.name: field.encode_name for field in msgspec.structs.fields(AgentQueueStatus)}
