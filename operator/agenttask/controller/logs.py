"""The controller's log lines: JSON for machines, text for people. No line holds contents of a spec."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from agenttask.controller.settings import Logging

TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
"""`json.dumps` with an option makes an encoder for each line."""


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


def configure(settings: Logging, stream: TextIO = sys.stderr) -> None:
    """Send all logs of this process to one stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if settings.format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # kopf tells of every event and every handler at INFO.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
