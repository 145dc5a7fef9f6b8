"""The status patch: only what changed, with the resourceVersion that it was planned from.

RFC 7386: a key that goes away must be written as null, or the old value stays.
"""

from typing import Any

import msgspec

from agenttask.api.task import AgentTaskStatus
from agenttask.domain.observation import SeenTask


def status_patch(task: SeenTask, status: AgentTaskStatus) -> bytes | None:
    """The merge patch that turns the task's status into this one; None when nothing changes."""
    changes = _changes(msgspec.to_builtins(task.status), msgspec.to_builtins(status))
    if not changes:
        return None
    return msgspec.json.encode({"metadata": {"resourceVersion": task.metadata.resource_version}, "status": changes})


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if value == before:
            continue
        changes[key] = _changes(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return changes
