"""The run's one HTTP session, made when the first client asks for it.

`trust_env` stays off on purpose: a proxy variable that a task sets would otherwise get the credentials of its models.
"""

from collections.abc import Sequence

import aiohttp

_CONNECTIONS = 100
_CONNECTIONS_PER_HOST = 10
_DNS_CACHE_SECONDS = 30
_TOTAL_SECONDS = 30
"""For calls that set no time of their own; model clients do, from `timeouts`."""


class SharedSession:
    """Connections that all remote models share."""

    def __init__(self, traces: Sequence[aiohttp.TraceConfig] = ()) -> None:
        self._traces = list(traces)
        self._session: aiohttp.ClientSession | None = None

    def __call__(self) -> aiohttp.ClientSession:
        """The session; needs a running loop."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_CONNECTIONS, limit_per_host=_CONNECTIONS_PER_HOST, ttl_dns_cache=_DNS_CACHE_SECONDS)
            timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, trace_configs=self._traces)
        return self._session

    async def aclose(self) -> None:
        """Close it, if it was ever made."""
        if self._session is not None:
            await self._session.close()
            self._session = None
