"""Which headers a user may set on requests of ours, whoever makes them."""

import re
from collections.abc import Iterable
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.domain.nearest import quoted

OF_THE_CONNECTION: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive"}
)
"""In lower case. With them a request could be read as two."""
_NAME: Final = re.compile(r"[-!#$%&*+.^_`|~0-9A-Za-z]+")


def check_header_names(names: Iterable[str], field: str) -> None:
    """Refuse what HTTP does not know, and what the connection sets itself.

    Raises:
        InvalidTask: with the field.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidTask(field, f"{quoted(name)} is no name that HTTP knows; use letters, digits and dashes")
        if name.lower() in OF_THE_CONNECTION:
            raise InvalidTask(field, f"{quoted(name)} is set by the connection itself; remove it")
