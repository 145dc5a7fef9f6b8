"""What libraries say through `logging`, as lines of the pod's log: in order with ours, and through the same queue."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class LibraryLog(logging.Handler):
    """Hands records on as lines; an exception follows in the same line, as all of it is one event."""

    def __init__(self, line: Callable[[str, str], None]) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library's format does not fit its arguments
            text = f"{record.msg} {record.args!r}"
        if record.exc_info is not None and record.exc_info[1] is not None:
            text = f"{text}\n{''.join(traceback.format_exception(record.exc_info[1]))}"
        self._line(f"{record.name} {record.levelname.lower()}", text)


@contextmanager
def library_log(line: Callable[[str, str], None]) -> Iterator[None]:
    """Hear all loggers meanwhile, from warnings on."""
    handler = LibraryLog(line)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
