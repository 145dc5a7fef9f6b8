"""The seven calls that the controller makes to the API server, on aiohttp and bytes.

No object model, no GET that nobody asked for, no body kept: callers encode and decode with msgspec where they know the
type. A general client costs 5 to 50 times the CPU a call (measured). Errors are those of kube_errors.
"""

import io
from collections.abc import AsyncGenerator, Mapping
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct

from agenttask.controller.kube_errors import Unreachable, from_answer
from agenttask.controller.server_clock import ServerClock

_ACCEPT: Final = "application/json"
_ACCEPT_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_ACCEPT_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_LARGE_BODY: Final = 1 << 20
"""Written piece by piece, as aiohttp asks for: one piece would hold the loop up."""
MAX_LINE_BYTES: Final = 16 << 20
"""A watch event is an object of at most ~3 MiB (the server's request limit); more than this is no watch stream."""


class _ListMeta(Struct, frozen=True):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()


class _Preconditions(Struct, frozen=True):
    uid: str


class _DeleteOptions(Struct, frozen=True, rename="camel", omit_defaults=True):
    preconditions: _Preconditions
    grace_period_seconds: int | None = None


_decode_page = msgspec.json.Decoder(_Page).decode
_encode = msgspec.json.Encoder().encode


class KubeClient:
    """One API server, and its clock. The session carries the credentials (controller/login.py); timeouts are in seconds."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: str,
        *,
        request_timeout: float = 15.0,
        stream_silence: float = 90.0,
    ) -> None:
        self._session = session
        self._server = server.rstrip("/")
        self.clock = ServerClock()
        self._timeout = aiohttp.ClientTimeout(total=request_timeout)
        # Bookmarks come about once a minute, so a longer silence is a dead connection (a load balancer forgot it).
        self._stream_timeout = aiohttp.ClientTimeout(total=None, sock_connect=request_timeout, sock_read=stream_silence)

    async def get(self, path: str) -> bytes:
        """One object."""
        return await self._send("GET", path)

    async def create(self, path: str, body: bytes) -> bytes:
        """POST to a collection; the object as stored.

        Raises:
            AlreadyExists: the name is taken.
        """
        return await self._send("POST", path, body)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """Delete exactly the object with this uid.

        Raises:
            Conflict: another object has the name by now.
            NotFound: it is gone already.
        """
        options = _DeleteOptions(preconditions=_Preconditions(uid), grace_period_seconds=grace_seconds)
        await self._send("DELETE", path, _encode(options))

    async def patch(self, path: str, body: bytes) -> bytes:
        """Merge-patch an object without a status; with `metadata.resourceVersion` in the body a stale write is refused.

        Raises:
            Conflict: the object changed since that resourceVersion.
        """
        return await self._send("PATCH", path, body, content_type="application/merge-patch+json")

    async def patch_status(self, path: str, body: bytes) -> bytes:
        """Merge-patch the status; with `metadata.resourceVersion` in the body a stale write is refused.

        Raises:
            Conflict: the object changed since that resourceVersion.
        """
        return await self._send("PATCH", f"{path}/status", body, content_type="application/merge-patch+json")

    async def list(
        self,
        path: str,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
        metadata_only: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """The pages of a collection, each a JSON list object of one and the same snapshot.

        Raises:
            Gone: reading took so long that the snapshot is compacted; start again.
        """
        query = _query(label_selector, field_selector) | {"limit": str(limit)}
        accept = _ACCEPT_METADATA_LIST if metadata_only else _ACCEPT
        while True:
            page = await self._send("GET", path, query=query, accept=accept)
            yield page
            following = _decode_page(page).metadata.continue_
            if not following:
                return
            query["continue"] = following

    async def watch(
        self,
        path: str,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        timeout_seconds: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The events after `resource_version`, a JSON line each, bookmarks among them.

        Ends when the server ends it (after `timeout_seconds`, with a bookmark shortly before) or the stream falls silent;
        close it (`contextlib.aclosing`) to stop earlier.

        Raises:
            Gone: the resourceVersion is compacted. (Later it arrives as an ERROR event instead.)
            Unreachable: the connection broke, in mid-line perhaps.
        """
        query = _query(label_selector, field_selector)
        query |= {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": resource_version}
        if timeout_seconds is not None:
            query["timeoutSeconds"] = str(timeout_seconds)
        accept = _ACCEPT_METADATA if metadata_only else _ACCEPT
        try:
            async with self._session.get(
                self._server + path, params=query, headers={"Accept": accept}, timeout=self._stream_timeout
            ) as response:
                if response.status >= 300:
                    raise from_answer(response.status, await response.read(), retry_after=response.headers.get("Retry-After"))
                async for line in _lines(response.content):
                    yield line
        except aiohttp.SocketTimeoutError:
            return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"watch of {path}: {_say(error)}") from error

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        accept: str = _ACCEPT,
        content_type: str = "application/json",
    ) -> bytes:
        headers = {"Accept": accept}
        data: bytes | io.BytesIO | None = body
        if body is not None:
            headers["Content-Type"] = content_type
            if len(body) > _LARGE_BODY:
                data = io.BytesIO(body)
        asked = self.clock.own()
        try:
            async with self._session.request(
                method, self._server + path, data=data, params=query, headers=headers, timeout=self._timeout
            ) as response:
                self.clock.heard(response.headers.get("Date"), asked=asked, answered=self.clock.own())
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {path}: {_say(error)}") from error
        if response.status >= 300:
            raise from_answer(response.status, answer, retry_after=response.headers.get("Retry-After"))
        return answer


def _query(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    query = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in query.items() if value}


def _say(error: Exception) -> str:
    """Some of aiohttp's errors have no text."""
    return str(error) or type(error).__name__


async def _lines(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Whole lines; `readline` gives up at 128 KiB, a pod may be larger."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            rest += head
            for line in bytes(rest).split(b"\n"):
                if line:
                    yield line
            rest.clear()
        rest += tail
        if len(rest) > MAX_LINE_BYTES:
            raise Unreachable(f"a watch event of more than {MAX_LINE_BYTES} bytes: not an API server's stream")
