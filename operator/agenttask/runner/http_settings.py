"""What the environment says of the run's HTTP sessions.

Bounds may be a task's own wish. Whom to trust and what to send with every model call is the operator's: it is read from
the container's environment only, as a task's certificates could let a stranger read the credentials of its models.
"""

from collections.abc import Mapping

from msgspec import Struct

from agenttask.api.errors import InvalidTask
from agenttask.domain.http_headers import check_header_names
from agenttask.domain.nearest import quoted
from agenttask.runner.gates import VARIABLE, read_gates

_LARGEST = {
    "HTTP_CONNECTIONS": 10_000,
    "HTTP_CONNECTIONS_PER_HOST": 1_000,
    "HTTP_DNS_CACHE_SECONDS": 86_400,
    "HTTP_TOTAL_SECONDS": 86_400,
}

CA_FILE = "HTTP_CA_FILE"
HEADERS = "HTTP_HEADERS"


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Bounds of what all sessions of one run share."""

    connections: int = 100
    connections_per_host: int = 10
    dns_cache_seconds: int = 30
    total_seconds: int = 30
    """For calls that set no time of their own; model clients do, from `timeouts`."""
    ca_file: str | None = None
    """Certificates in place of the system's, for models without a `caBundle` and for `fetch`."""
    headers: dict[str, str] = {}
    """Sent with every call of a model, under the model's own."""
    http2: bool = True
    """The feature gate `HTTP2`; without it every request is HTTP/1.1."""


def read_http_settings(environ: Mapping[str, str], container: Mapping[str, str]) -> HttpSettings:
    """The settings in these variables; `container` are those that no task sets.

    Raises:
        InvalidTask: a value that is none, or a feature gate that is not known.
    """
    given = {name.removeprefix("HTTP_").lower(): _number(environ[name], name) for name in _LARGEST if environ.get(name)}
    return HttpSettings(
        **given,
        ca_file=container.get(CA_FILE) or None,
        headers=_headers(container.get(HEADERS, "")),
        http2=read_gates(environ.get(VARIABLE, ""))["HTTP2"],
    )


def _headers(raw: str) -> dict[str, str]:
    """A header a line, as `X-Team: agents`."""
    found: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in raw.splitlines())):
        name, colon, value = line.partition(":")
        if not colon or not value.isprintable() or not value.isascii():
            raise InvalidTask(HEADERS, f"{quoted(line)} is no header; write one a line, as `X-Team: agents`")
        found[name.strip()] = value.strip()
    check_header_names(found, HEADERS)
    return found


def _number(raw: str, name: str) -> int:
    largest = _LARGEST[name]
    if not raw.isascii() or not raw.isdigit() or len(raw) > len(str(largest)) or not 1 <= int(raw) <= largest:
        raise InvalidTask(name, f"{quoted(raw)} is no whole number from 1 to {largest}")
    return int(raw)
