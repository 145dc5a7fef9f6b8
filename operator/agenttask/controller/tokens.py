"""Bearer tokens that change under way, and the aiohttp middleware that puts the current one on every request.

A service account's token is replaced on disk by the kubelet well before its hour is over; whoever reads it only at the
start is locked out an hour later.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import aiohttp
from yarl import URL

REREAD_SECONDS: Final = 60.0


class TokenSource(Protocol):
    """Where the token comes from."""

    async def current(self, *, refused: str | None = None) -> str:
        """The token to use now; `refused` is one that the server just answered 401 to, a reason to look again."""
        ...


class FixedToken:
    """A token that stays."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def current(self, *, refused: str | None = None) -> str:  # noqa: ARG002 - there is no other one
        """The token."""
        return self._token


class FileToken:
    """A token in a file that somebody else keeps fresh; read at most once a minute, or when it is refused."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    async def current(self, *, refused: str | None = None) -> str:
        """The token as of the last minute.

        Raises:
            OSError: the file cannot be read, and never could; later, the token known is used on.
        """
        now = self._clock()
        if now - self._read_at >= REREAD_SECONDS or (refused is not None and refused == self._token):
            try:
                self._token = self._path.read_text().strip()
            except OSError:
                if not self._token:
                    raise
            self._read_at = now
        return self._token


def bearer(source: TokenSource, server: str) -> aiohttp.ClientMiddlewareType:
    """Middleware that authorizes requests to `server` and to nobody else, and tries once more with a fresh token after 401."""
    origin = URL(server).origin()

    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if request.url.origin() != origin:  # a redirect must not carry the token away
            return await handler(request)
        token = await source.current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = await handler(request)
        if response.status == 401:
            fresh = await source.current(refused=token)
            if fresh != token:
                response.release()
                request.headers["Authorization"] = f"Bearer {fresh}"
                return await handler(request)
        return response

    return authorize
