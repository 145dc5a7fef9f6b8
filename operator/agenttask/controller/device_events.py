"""Why a node does not prepare the devices of a pod's claims: the kubelet tells it in an event, and nowhere in the pod.

Events are read for such pods only, once they have had a node for longer than a pod usually needs it, and then seldom.
"""

import logging
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.report import shorten
from agenttask.controller.kube_errors import KubeError
from agenttask.controller.kube_paths import events_path
from agenttask.controller.wire import Wire
from agenttask.controller.world import Writer
from agenttask.domain import fallback
from agenttask.domain.lifecycle import MAX_MESSAGE
from agenttask.domain.observation import SeenPod

logger: Final = logging.getLogger(__name__)
_REASON: Final = "FailedPrepareDynamicResources"
_PREFIX: Final = "Failed to prepare dynamic resources: prepare dynamic resources: "


class _Event(Wire, frozen=True, kw_only=True):
    """v1.Event; a recorder sets one of the times."""

    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None


class _Events(Wire, frozen=True, kw_only=True):
    """v1.EventList."""

    items: tuple[_Event, ...] = ()


class _Told(Struct, frozen=True):
    """What was found for a pod, and when (Unix seconds)."""

    pod: str
    at: float
    message: str | None


_decode: Final = msgspec.json.Decoder(_Events).decode


class DeviceEvents:
    """By task."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._told: dict[str, _Told] = {}

    async def completed(self, uid: str, namespace: str, pod: SeenPod, now: float) -> SeenPod:
        """A task's pod with what its node says of its devices; where events cannot be read, with what is known already."""
        asks = fallback.asks_node_from(pod)
        if asks is None or now < asks:
            self._told.pop(uid, None)
            return pod
        told = self._told.get(uid)
        known = told if told is not None and told.pod == pod.uid else None
        if known is None or not known.at <= now < known.at + fallback.LEAST_SLEEP:
            message = await self._ask(namespace, pod, before=known.message if known is not None else None)
            known = self._told[uid] = _Told(pod.uid, now, message)
        return msgspec.structs.replace(pod, unprepared=known.message)

    async def _ask(self, namespace: str, pod: SeenPod, before: str | None) -> str | None:
        """What is said by now, `before` is what was; cut, for whoever may write events in the namespace writes as much as he likes."""
        try:
            found = _decode(await self._writer.get(events_path(namespace, pod.uid, _REASON))).items
        except KubeError as error:
            logger.warning("%s/%s: its events cannot be read: %s", namespace, pod.name, error)
            return before
        last = max(found, key=lambda one: one.last_timestamp or one.event_time or "", default=None)
        return shorten(last.message.removeprefix(_PREFIX), MAX_MESSAGE) if last is not None else None

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        self._told.pop(uid, None)
