"""What an AgentQueue must be beyond its schema: the rule of its CRD, for files, and what an installation cannot heed."""

import re
from collections.abc import Collection
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.api.queue import AgentQueueSpec
from agenttask.domain.nearest import did_you_mean, listed, quoted

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def check_queue(name: str) -> None:
    """Refuse a queue that no task could name.

    Raises:
        InvalidTask: with the field.
    """
    if not _DNS_LABEL.fullmatch(name):
        problem = f"{quoted(name)} is no DNS label of at most 63 characters, so no task could name it; use letters, digits and dashes"
        raise InvalidTask("metadata.name", problem)


def unknown_classes(spec: AgentQueueSpec, known: Collection[str]) -> str:
    """The sentence about bounds on device classes that the installation does not define; empty where there are none."""
    unknown = [name for name in spec.devices if name not in known]
    if not unknown:
        return ""
    near = next((hint for name in unknown if (hint := did_you_mean(name, known))), "")
    named = ", ".join(quoted(name) for name in unknown)
    return f"spec.devices: no device class is called {named}, so that bounds nothing; the installation defines: {listed(known)}{near}"
