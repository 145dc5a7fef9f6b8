"""At most one line a minute about a collector that does not answer.

The SDK logs every failed batch, some several times; a collector that is down for a night must not fill the disk.
"""

import logging
import threading
import time
from collections.abc import Callable

LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.sdk.trace",
)
"""Those that speak of exporting; a logger's filter does not reach its children, so each is named."""
INTERVAL_SECONDS = 60.0


class Quiet(logging.Filter):
    """Lets one record through in `interval` seconds, as a warning that tells how many were held back before it."""

    def __init__(self, *, interval: float = INTERVAL_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._next: float | None = None
        self._held = 0

    def attach(self) -> None:
        """Start to listen to the SDK's loggers."""
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def detach(self) -> None:
        """Let them speak freely again."""
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes; it is made a warning without its traceback. Debug and info pass as they are."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        with self._lock:
            if self._next is not None and now < self._next:
                self._held += 1
                return False
            held, self._held = self._held, 0
            self._next = now + self._interval
        more = f" ({held} more like it were not shown)" if held else ""
        record.msg, record.args = f"spans are not exported: {record.getMessage()}{more}", None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.exc_info, record.exc_text = None, None
        return True
