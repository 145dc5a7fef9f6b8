"""The AgentQueues as the API server has them: what a reflector brings, read once."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from agenttask.api.meta import ObjectMeta
from agenttask.api.queue import AgentQueueSpec, AgentQueueStatus
from agenttask.domain.room import SeenQueue


class QueueObject(Struct, frozen=True, kw_only=True):
    """An AgentQueue, its spec unread: one with a field that this version does not know must not vanish."""

    metadata: ObjectMeta
    spec: dict[str, Any] = {}
    status: AgentQueueStatus = AgentQueueStatus()


class Queues:
    """AgentQueues by namespace and name. `changed` is called when tasks of one may have to be looked at."""

    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._seen: dict[str, dict[str, SeenQueue]] = {}
        self._objects: dict[tuple[str, str], QueueObject] = {}
        self._changed = changed

    def __iter__(self) -> Iterator[QueueObject]:
        return iter(list(self._objects.values()))

    def of(self, namespace: str) -> Mapping[str, SeenQueue]:
        """The queues of a namespace."""
        return MappingProxyType(self._seen.get(namespace, {}))

    def on_change(self, old: QueueObject | None, new: QueueObject | None) -> None:
        """A queue appeared, changed or went; our own status writes come back here and change nothing."""
        one = new if new is not None else old
        if one is None:
            return
        namespace, name = one.metadata.namespace, one.metadata.name
        before = self._seen.get(namespace, {}).get(name)
        if new is None:
            self._objects.pop((namespace, name), None)
            queues = self._seen.get(namespace, {})
            queues.pop(name, None)
            if not queues:
                self._seen.pop(namespace, None)
            self._changed(namespace, name)
            return
        self._objects[namespace, name] = new
        seen = _read(new.spec)
        if seen != before:
            self._seen.setdefault(namespace, {})[name] = seen
            self._changed(namespace, name)


def _read(spec: dict[str, Any]) -> SeenQueue:
    try:
        return SeenQueue(spec=msgspec.convert(spec, AgentQueueSpec))
    except msgspec.ValidationError as error:
        return SeenQueue(spec=None, problem=str(error).replace("`$", "`spec"))
