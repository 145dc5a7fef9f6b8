"""The tests' own client: dicts in, dicts out. It goes past the proxy, and waits out an API server that is being restarted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final, Self

import aiohttp

Object = dict[str, Any]
PATIENCE_SECONDS: Final = 60.0
_MERGE: Final = "application/merge-patch+json"


class Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


class Api:
    """One user at one API server; open it with `async with`."""

    def __init__(self, server: str, token: str) -> None:
        self.server, self._token = server, token

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False, limit=0),
            headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, **query: str) -> Object:
        """One object, or a list of them."""
        return await self._send("GET", path, query=query)

    async def find(self, path: str) -> Object | None:
        """One object, if it is there."""
        try:
            return await self.get(path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    async def create(self, path: str, body: Object) -> Object:
        """POST to a collection."""
        return await self._send("POST", path, body)

    async def patch(self, path: str, body: Object) -> Object:
        """Merge-patch."""
        return await self._send("PATCH", path, body, content_type=_MERGE)

    async def delete(self, path: str, *, uid: str | None = None, grace: int | None = None, propagation: str | None = None) -> None:
        """DELETE; what is gone already is fine."""
        options: Object = {"preconditions": {"uid": uid}} if uid is not None else {}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation is not None:
            options["propagationPolicy"] = propagation
        try:
            await self._send("DELETE", path, options)
        except Refused as refused:
            if refused.status not in (404, 409):
                raise

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Type and object of each event, until the server ends the stream."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self.server + path, params=query, timeout=timeout, read_bufsize=1 << 24) as answer:
            if answer.status >= 300:
                raise Refused(answer.status, await answer.text())
            async for line in answer.content:
                event = json.loads(line)
                yield event["type"], event["object"]

    async def _send(
        self, method: str, path: str, body: Object | None = None, *, content_type: str = "application/json", query: Any = None
    ) -> Object:
        ends = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        data = None if body is None else json.dumps(body)
        while True:
            try:
                async with self._session.request(
                    method, self.server + path, data=data, params=query, headers={"Content-Type": content_type}
                ) as answer:
                    text = await answer.text()
                    if answer.status < 300:
                        return json.loads(text)  # type: ignore[no-any-return]
                    if answer.status < 500 and answer.status != 429:
                        raise Refused(answer.status, text)
                    problem: Exception = Refused(answer.status, text)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = error
            if asyncio.get_running_loop().time() > ends:
                raise problem
            await asyncio.sleep(0.1)
