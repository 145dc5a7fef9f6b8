"""The tasks that are not final, as the API server last told; bodies are read once and not kept."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from agenttask.api.meta import ObjectMeta
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus
from agenttask.controller.resource_version import comparable
from agenttask.domain.observation import SeenTask

logger: Final = logging.getLogger(__name__)


def read_task(body: Mapping[str, Any]) -> SeenTask | None:
    """The task in a body; None when even its status cannot be read, because acting on half a view is worse than waiting.

    A spec that cannot be read (a field that this version does not know) is a task with a problem, which status will show.
    """
    try:
        metadata = msgspec.convert(body.get("metadata", {}), ObjectMeta)
        status = msgspec.convert(body.get("status") or {}, AgentTaskStatus)
    except msgspec.ValidationError as error:
        logger.warning("AgentTask %s is left alone: %s", _name(body), error)
        return None
    # kubectl keeps a copy of the whole object in an annotation.
    metadata = msgspec.structs.replace(metadata, annotations={})
    try:
        spec = msgspec.convert(body.get("spec", {}), AgentTaskSpec)
    except msgspec.ValidationError as error:
        return SeenTask(metadata=metadata, spec=None, problem=str(error).replace("`$", "`spec"), status=status)
    return SeenTask(metadata=metadata, spec=spec, status=status)


class TaskCache:
    """Tasks by uid. Views arrive from kopf's stream and from our own writes; an older one never replaces a newer."""

    def __init__(self) -> None:
        self._tasks: dict[str, SeenTask] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._tasks))

    def get(self, uid: str) -> SeenTask | None:
        """The task, unless it is final or gone."""
        return self._tasks.get(uid)

    def put(self, task: SeenTask) -> bool:
        """Take a view in; whether it was news."""
        if task.status.phase is not None and task.status.phase.terminal:
            self._tasks.pop(task.uid, None)
            return True
        known = self._tasks.get(task.uid)
        if known is not None and _version(known) > _version(task):
            return False
        self._tasks[task.uid] = task
        return known is None or known.metadata.resource_version != task.metadata.resource_version

    def drop(self, uid: str) -> None:
        """The task is final or gone."""
        self._tasks.pop(uid, None)


def _version(task: SeenTask) -> int:
    return comparable(task.metadata.resource_version)


def _name(body: Mapping[str, Any]) -> str:
    metadata = body.get("metadata")
    return f"{metadata.get('namespace')}/{metadata.get('name')}" if isinstance(metadata, Mapping) else "without metadata"
