"""What SIGTERM may leave in the log of kopf's own watch, when an event had come just then: it is no error of ours."""

import re
from typing import Final

_TRACE: Final = re.compile(
    r"an error occurred during closing of asynchronous generator <async_generator object infinite_watch "
    r"(?:(?!\n\d{4}-\d\d-\d\d |\n\{).)*?RuntimeError: generator didn't stop after athrow\(\)",
    re.DOTALL,
)
"""As text or as JSON; no line of the log begins in between."""


def without_cut_off_watches(log: str) -> str:
    """The log, or one record of it, without these messages and their traces."""
    return _TRACE.sub("", log)
