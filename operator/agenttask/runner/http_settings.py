"""What the environment says of the run's HTTP sessions."""

from collections.abc import Mapping

from msgspec import Struct

from agenttask.api.errors import InvalidTask
from agenttask.domain.nearest import quoted
from agenttask.runner.gates import VARIABLE, read_gates

_LARGEST = {
    "HTTP_CONNECTIONS": 10_000,
    "HTTP_CONNECTIONS_PER_HOST": 1_000,
    "HTTP_DNS_CACHE_SECONDS": 86_400,
    "HTTP_TOTAL_SECONDS": 86_400,
}


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Bounds of what all sessions of one run share."""

    connections: int = 100
    connections_per_host: int = 10
    dns_cache_seconds: int = 30
    total_seconds: int = 30
    """For calls that set no time of their own; model clients do, from `timeouts`."""
    http2: bool = True
    """The feature gate `HTTP2`; without it every request is HTTP/1.1."""


def read_http_settings(environ: Mapping[str, str]) -> HttpSettings:
    """The settings in these variables.

    Raises:
        InvalidTask: a value that is none, or a feature gate that is not known.
    """
    given = {name.removeprefix("HTTP_").lower(): _number(environ[name], name) for name in _LARGEST if environ.get(name)}
    return HttpSettings(**given, http2=read_gates(environ.get(VARIABLE, ""))["HTTP2"])


def _number(raw: str, name: str) -> int:
    largest = _LARGEST[name]
    if not raw.isascii() or not raw.isdigit() or len(raw) > len(str(largest)) or not 1 <= int(raw) <= largest:
        raise InvalidTask(name, f"{quoted(raw)} is no whole number from 1 to {largest}")
    return int(raw)
