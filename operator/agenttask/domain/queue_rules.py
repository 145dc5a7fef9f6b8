"""What an AgentQueue must be beyond its schema: the rule of its CRD, for files."""

import re
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.domain.nearest import quoted

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def check_queue(name: str) -> None:
    """Refuse a queue that no task could name.

    Raises:
        InvalidTask: with the field.
    """
    if not _DNS_LABEL.fullmatch(name):
        problem = f"{quoted(name)} is no DNS label of at most 63 characters, so no task could name it; use letters, digits and dashes"
        raise InvalidTask("metadata.name", problem)
