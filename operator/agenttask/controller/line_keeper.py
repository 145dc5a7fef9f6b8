"""What time alone changes: breakers that close, places in the line, and the status of queues, written when it is another.

A queue's status is compared with what the API server has, so a restart writes nothing that stands there already. `pending`
and `running` may change a hundred times a second: they are written every few seconds, and not at all while they stay. Of many
queues that change, those that were not told for the longest time come first.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol

import msgspec

from agenttask.api.meta import Condition
from agenttask.api.queue import AgentQueueStatus
from agenttask.api.reasons import ConditionType, Reason
from agenttask.controller.dispatcher import Dispatcher
from agenttask.controller.kube_errors import KubeError, NotFound
from agenttask.controller.kube_paths import queue_path
from agenttask.controller.queues import QueueObject, Queues
from agenttask.domain.conditions import with_condition
from agenttask.domain.moment import render
from agenttask.domain.queue_rules import unknown_classes

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
    """Runs beside the drivers; `classes` are the names of the device classes there are, `clock` is in Unix seconds.

    At most `per_second` statuses are written a second, of all queues together.
    """

    def __init__(
        self,
        *,
        queues: Queues,
        dispatcher: Dispatcher,
        classes: Collection[str],
        writer: StatusWriter,
        per_second: float,
        clock: Callable[[], float],
    ) -> None:
        self._queues, self._dispatcher, self._classes = queues, dispatcher, classes
        self._writer, self._clock = writer, clock
        self._at_once = max(1, int(per_second * STATUS_SECONDS))
        self._told: dict[str, float] = {}
        """By uid; when a queue's status was written last."""
        self._written: dict[str, AgentQueueStatus] = {}
        """By uid; the watch brings it back later."""
        self._not_before = 0.0

    async def run(self) -> None:
        """Until cancelled. A slow API server holds up what is written, and no turn."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._tell())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._dispatcher.tick()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.write(self._clock())

    async def write(self, now: float) -> None:
        """Write the statuses that are due and that changed."""
        if now < self._not_before or not self._dispatcher.is_open:
            return
        self._not_before = now + STATUS_SECONDS
        queues = list(self._queues)
        self._written = {one.metadata.uid: self._written.get(one.metadata.uid, one.status) for one in queues}
        self._told = {uid: at for uid, at in self._told.items() if uid in self._written}
        changed = [(one, status) for one in queues if (status := self._status(one, now)) != self._written[one.metadata.uid]]
        changed.sort(key=lambda each: self._told.get(each[0].metadata.uid, 0.0))
        for one, status in changed[: self._at_once]:
            if not await self._put(one, status):
                return
            self._told[one.metadata.uid] = now

    def _status(self, queue: QueueObject, now: float) -> AgentQueueStatus:
        running, pending, oldest = self._dispatcher.counts(queue.metadata.namespace, queue.metadata.name)
        return AgentQueueStatus(
            observed_generation=queue.metadata.generation,
            conditions=self._accepted(queue, now),
            running=running,
            pending=pending,
            oldest_pending_time=render(oldest) if oldest is not None else None,
        )

    def _accepted(self, queue: QueueObject, now: float) -> tuple[Condition, ...]:
        """Whether all that the queue's spec says can be heeded."""
        seen = self._queues.of(queue.metadata.namespace)[queue.metadata.name]
        if seen.spec is None:
            reason, message = Reason.UNKNOWN_QUEUE, f"spec cannot be read: {seen.problem}"
        else:
            message = unknown_classes(seen.spec, self._classes)
            reason = Reason.UNKNOWN_CLASS if message else Reason.ACCEPTED
        return with_condition(
            self._written[queue.metadata.uid].conditions,
            ConditionType.ACCEPTED,
            "False" if message else "True",
            reason,
            message,
            generation=queue.metadata.generation,
            now=now,
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
