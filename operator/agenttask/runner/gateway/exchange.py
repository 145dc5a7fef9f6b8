"""One request to one address of the gateway, and its answer: bounded in size and time, checked against the document's CA.

The connection goes to the address, the certificate has to be the Service's: the name in the URL. No proxy variable, no redirect,
no compression and no cookie plays a part.
"""

import asyncio
import importlib
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from agenttask.api.document import GatewayDocument
from agenttask.domain.retry_after import retry_after
from agenttask.runner.gateway.errors import GatewayRefused

if TYPE_CHECKING:
    import aiohttp

Method = Literal["GET", "PUT", "POST"]

_CONNECT_SECONDS = 3.0
_TRY_SECONDS = 10.0
_CONNECTIONS = 4
_DEFAULT_PORT = 443


class NoAnswer(Exception):
    """This address gave none; the message says why, another one may."""


class Answer(Struct, frozen=True, kw_only=True):
    """A whole one; `retry_after` is in seconds."""

    status: int
    body: bytes = b""
    retry_after: float | None = None


class Exchange:
    """Requests with one token; the session is made for the first one, and closed at the end.

    Raises:
        GatewayRefused: the document's URL is no `https://host[:port]`.
    """

    def __init__(self, document: GatewayDocument, token: str) -> None:
        self.host, self.port = place(document.url)
        self._ca = document.ca
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", "Host": f"{self.host}:{self.port}"}
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, address: str, method: Method, path: str, body: bytes | None, *, content_type: str, largest: int) -> Answer:
        """The answer of this address.

        Args:
            address: an IP address.
            method: of HTTP.
            path: below the URL's host.
            body: None for none.
            content_type: of the body.
            largest: bytes that an answer may have.

        Raises:
            NoAnswer: no connection, none that can be trusted, no whole answer in time, or one that is too large.
            GatewayRefused: the CA is no certificate.
        """
        session = self._session or await self._open()
        import aiohttp
        from yarl import URL

        url = URL.build(scheme="https", host=address, port=self.port, path=path)
        headers = {} if body is None else {"Content-Type": content_type}
        try:
            async with session.request(
                method, url, data=body, headers=headers, allow_redirects=False, server_hostname=self.host
            ) as response:
                content = await _bounded(response, largest)
                return Answer(status=response.status, body=content, retry_after=_wish(response.headers))
        except TimeoutError as error:
            raise NoAnswer(f"no answer within {_TRY_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close the connections, if there were any."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _open(self) -> "aiohttp.ClientSession":
        await asyncio.to_thread(importlib.import_module, "aiohttp")  # a fifth of a second that the event loop need not stand still for
        import aiohttp

        if self._session is None:
            try:
                context = ssl.create_default_context(cadata=self._ca)
            except (ssl.SSLError, ValueError) as error:
                raise GatewayRefused(f"the CA in the task document is no certificate in PEM: {error}") from error
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=_TRY_SECONDS, sock_connect=_CONNECT_SECONDS),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _bounded(response: "aiohttp.ClientResponse", largest: int) -> bytes:
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > largest:
            response.close()
            raise NoAnswer(f"status {response.status} with more than {largest} bytes")
    return bytes(content)


def _wish(headers: Mapping[str, str]) -> float | None:
    return retry_after(headers.get("Retry-After"), time.time())


def place(url: str) -> tuple[str, int]:
    """Host and port of the gateway's URL.

    Raises:
        GatewayRefused: it is no `https://host[:port]`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    if parts.scheme != "https" or not host or parts.path not in ("", "/"):
        raise GatewayRefused(f"the gateway's URL {url!r} is not https://host:port")
    return host, port
