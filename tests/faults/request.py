"""What a request to the API server is about, and a name for it that is the same in every run."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

_PATH: Final = re.compile(
    r"^/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
_HASHED: Final = re.compile(r"-[0-9a-f]{10}(?=-\d+$)")
"""The uid's hash in a pod's name: another one in every run."""
MUTATING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Request(Struct, frozen=True, kw_only=True):
    """One request, taken apart."""

    method: str
    path: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: dict[str, str] = {}
    body: bytes = b""
    at: float = 0.0
    """When it came, by the monotonic clock."""

    @property
    def watch(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.query.get("watch") in ("true", "1")

    @property
    def lists(self) -> bool:
        """Whether the answer is a collection."""
        return self.method == "GET" and not self.name and not self.watch and bool(self.plural)

    @property
    def mutating(self) -> bool:
        """Whether it is a write that counts; an elector's lease is renewed all the time."""
        return self.method in MUTATING and self.plural not in ("leases", "events")

    @property
    def content(self) -> dict[str, Any]:
        """The body as JSON."""
        return json.loads(self.body) if self.body else {}

    @property
    def key(self) -> str:
        """`POST pods/succeed-1`, `PATCH agenttasks/succeed/status Succeeded`: the same in every run."""
        words = f"{self.method} {self.plural}"
        if self.watch:
            return f"WATCH {self.plural}"
        if not self.mutating:
            return f"{words}/{_HASHED.sub('', self.name)}" if self.name else words
        name = self.name or str(self.content.get("metadata", {}).get("name", ""))
        words += f"/{_HASHED.sub('', name)}" + (f"/{self.subresource}" if self.subresource else "")
        if self.subresource == "status":
            status = self.content.get("status") or {}
            words += f" {status.get('phase', '')} {status.get('reason', '')}".rstrip()
        return words


def parse(method: str, path: str, query: Mapping[str, str], body: bytes) -> Request:
    """The request; one outside of the resource paths (discovery) has its path alone."""
    found = _PATH.match(path)
    if found is None:
        return Request(method=method, path=path, query=dict(query), body=body, at=time.monotonic())
    return Request(
        method=method,
        path=path,
        plural=found["plural"],
        namespace=found["namespace"] or "",
        name=found["name"] or "",
        subresource=found["sub"] or "",
        query=dict(query),
        body=body,
        at=time.monotonic(),
    )
