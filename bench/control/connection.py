"""How the benchmark's own programs reach the API server: an address, a CA and a token, and nothing cleverer."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import aiohttp

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
_ADDRESS, _ROOTS, _TOKEN = "BENCH_API", "BENCH_API_ROOTS", "BENCH_API_TOKEN"


class Refused(Exception):
    """The API server answered with an error; the message has its status and words."""


class Access(NamedTuple):
    """Where the API server is and who asks; it crosses to other programs in their environment."""

    url: str
    roots: Path
    token: str

    def environment(self) -> dict[str, str]:
        """For a program of ours."""
        return {_ADDRESS: self.url, _ROOTS: str(self.roots), _TOKEN: self.token}

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> "Access":
        """What the environment says."""
        return cls(environ[_ADDRESS], Path(environ[_ROOTS]), environ[_TOKEN])


class Api:
    """A session; open it with `async with`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=self._access.roots)
        self.session = aiohttp.ClientSession(
            self._access.url,
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            headers={"Authorization": f"Bearer {self._access.token}"},
            timeout=aiohttp.ClientTimeout(total=60),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def send(self, method: str, path: str, body: bytes, kind: str = JSON) -> bytes:
        """One write; the answer's body.

        Raises:
            Refused: any status but 2xx.
        """
        async with self.session.request(method, path, data=body, headers={"Content-Type": kind}) as response:
            answer = await response.read()
            if response.status >= 300:
                raise Refused(f"{method} {path}: {response.status} {answer[:500].decode(errors='replace')}")
            return answer

    async def get(self, path: str) -> Any:
        """An object or list, decoded.

        Raises:
            Refused: any status but 200.
        """
        async with self.session.get(path) as response:
            if response.status != 200:
                raise Refused(f"GET {path}: {response.status} {(await response.text())[:500]}")
            return await response.json()

    async def text(self, path: str) -> str:
        """A page that is no object, as /metrics."""
        async with self.session.get(path) as response:
            return await response.text()
