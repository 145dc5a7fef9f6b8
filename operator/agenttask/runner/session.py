"""The run's HTTP sessions: made when first asked for, all on one connector, so that connections and their limits are shared.

A session is a policy on those connections: `session()` is the ordinary one, `session.for_model(document)` has the model's
`http2` mode, CA bundle and headers. Whoever uses a session needs to know nothing of that:

    async with context.session().post(url, json=body) as response: ...

aiohttp and `h2` are imported with the first session: they are half of a start, and many tasks make no request.
`trust_env` stays off on purpose: a proxy variable that a task sets would otherwise get the credentials of its models.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from agenttask.api.document import ModelDocument
from agenttask.runner.http2.settings import Http2Mode, Http2Settings
from agenttask.runner.http2.tls import TlsContexts
from agenttask.runner.http_settings import HttpSettings

if TYPE_CHECKING:
    import aiohttp

    from agenttask.runner.http2.connector import Http2Connector

_Policy = tuple[Http2Mode, str | None, tuple[tuple[str, str], ...]]


class OriginUse(Struct, frozen=True, kw_only=True):
    """What one origin has at the moment; for HTTP/1.1 the connector counts for itself."""

    protocol: Literal["h2", "http/1.1"]
    connections: int = 0
    streams: int = 0
    waiting: int = 0


class SharedSession:
    """Sessions of one run; must be closed in the loop in which it was first used."""

    def __init__(
        self,
        traces: "Sequence[aiohttp.TraceConfig]" = (),
        *,
        settings: HttpSettings = HttpSettings(),  # noqa: B008  # frozen
        http2: Http2Settings = Http2Settings(),  # noqa: B008  # frozen
    ) -> None:
        self._traces = list(traces)
        self._settings = settings
        self._http2 = http2
        self._tls = TlsContexts()
        self._connector: Http2Connector | None = None
        self._sessions: dict[_Policy, aiohttp.ClientSession] = {}

    @staticmethod
    def prepare() -> None:
        """Import now what the first session needs, and not while steps run."""
        from agenttask.runner.http2 import connector, middleware  # noqa: F401

    def __call__(self) -> "aiohttp.ClientSession":
        """The session of steps; needs a running loop."""
        return self.of()

    def for_model(self, document: ModelDocument) -> "Callable[[], aiohttp.ClientSession]":
        """What a model's client asks for its session: with the model's HTTP/2 mode, CA bundle and headers.

        A client may name a TLS context of its own for a request; the model's bundle is used all the same.
        """
        headers = {**self._settings.headers, **document.headers}
        return lambda: self.of(mode=cast("Http2Mode", document.http2), ca_file=document.ca_file, headers=headers)

    def of(
        self, *, mode: Http2Mode = "Auto", ca_file: str | None = None, headers: Mapping[str, str] | None = None
    ) -> "aiohttp.ClientSession":
        """The session of one policy.

        Raises:
            InvalidTask: the CA bundle cannot be read.
        """
        ca_file = ca_file or self._settings.ca_file
        policy: _Policy = (mode if self._settings.http2 else "Disabled", ca_file, tuple(sorted((headers or {}).items())))
        if policy not in self._sessions:
            import aiohttp

            from agenttask.runner.http2.middleware import Http2Middleware

            connector = self._connect()
            context = None if ca_file is None else self._tls.trusting(ca_file)
            self._sessions[policy] = aiohttp.ClientSession(
                connector=connector,
                connector_owner=False,
                headers=headers,
                middlewares=[Http2Middleware(connector, mode=policy[0], context=context)],
                timeout=aiohttp.ClientTimeout(total=self._settings.total_seconds),
                trust_env=False,
                trace_configs=self._traces,
            )
        return self._sessions[policy]

    def use(self) -> Mapping[str, OriginUse]:
        """Which origin speaks what, and what it has open; for logs and metrics."""
        if self._connector is None:
            return {}
        found = {origin: OriginUse(protocol="http/1.1") for origin in self._connector.http1_origins()}
        for origin, load in self._connector.http2_origins():
            before = found.get(origin)
            if before is None or before.protocol != "h2":
                before = OriginUse(protocol="h2")
            found[origin] = OriginUse(
                protocol="h2",
                connections=before.connections + load.connections,
                streams=before.streams + load.streams,
                waiting=before.waiting + load.waiting,
            )
        return found

    async def aclose(self) -> None:
        """Close all sessions, if any was ever made."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    def _connect(self) -> "Http2Connector":
        if self._connector is None:
            from agenttask.runner.http2.connector import Http2Connector

            settings, http2 = self._settings, self._http2
            per_origin = min(http2.connections_per_origin, settings.connections_per_host)
            self._connector = Http2Connector(
                settings=replace(http2, connections_per_origin=per_origin, connections=settings.connections),
                tls=self._tls,
                limit=settings.connections,
                limit_per_host=settings.connections_per_host,
                ttl_dns_cache=settings.dns_cache_seconds,
            )
        return self._connector
