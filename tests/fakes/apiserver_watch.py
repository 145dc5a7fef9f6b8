"""The open watches of the fake API server."""

import asyncio
import time

import msgspec
from aiohttp import web

from tests.fakes.apiserver_refusal import Refusal
from tests.fakes.apiserver_resources import Target
from tests.fakes.apiserver_selectors import Object, Predicate, selects
from tests.fakes.apiserver_store import Change, Store

_encode = msgspec.json.encode


def as_accepted(found: Object, accept: str) -> Object:
    """The object in the form that the request's Accept header asks for."""
    if "as=PartialObjectMetadata" not in accept:
        return found
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"]}


class Watch:
    """One open stream: what it wants, and the lines that it still has to send (None: end)."""

    def __init__(self, target: Target, wanted: Predicate, accept: str) -> None:
        self.target, self.wanted, self.accept = target, wanted, accept
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.reset = False
        self.stalled = False
        self.bookmarks = False

    def offer(self, change: Change) -> None:
        event = change.event(self.target, self.wanted)
        if event is not None:
            self.send(event[0], as_accepted(event[1], self.accept))

    def bookmark(self, version: int) -> None:
        if self.bookmarks:
            resource = self.target.resource
            partial = "as=PartialObjectMetadata" in self.accept
            kind, api = ("PartialObjectMetadata", "meta.k8s.io/v1") if partial else (resource.kind, resource.api_version)
            self.send("BOOKMARK", {"kind": kind, "apiVersion": api, "metadata": {"resourceVersion": str(version)}})

    def send(self, kind: str, found: Object) -> None:
        if not self.stalled:
            self.lines.put_nowait(_encode({"type": kind, "object": found}) + b"\n")


class Watches:
    """All open watches."""

    def __init__(self, store: Store, bookmark_seconds: float) -> None:
        self._store = store
        self._bookmark_seconds = bookmark_seconds
        self._open: set[Watch] = set()
        store.listeners.append(self._changed)

    def __len__(self) -> int:
        return len(self._open)

    def bookmark(self) -> None:
        for watch in self._open:
            watch.bookmark(self._store.version)

    def stall(self) -> None:
        for watch in self._open:
            watch.stalled = True

    def push(self, plural: str, line: bytes) -> None:
        for watch in self._open:
            if watch.target.resource.plural == plural:
                watch.lines.put_nowait(line)

    def drop(self, *, rest: bytes = b"", clean: bool = False) -> None:
        for watch in self._open:
            if rest:
                watch.lines.put_nowait(rest)
            watch.reset = not clean
            watch.lines.put_nowait(None)

    async def serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer a watch request until the server or the client ends it."""
        query = request.query
        watch = Watch(target, selects(query.get("labelSelector", ""), query.get("fieldSelector", "")), request.headers.get("Accept", ""))
        watch.bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._replay(watch, query.get("resourceVersion", ""))
        self._open.add(watch)  # before anything is awaited: no change falls between past and present
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        limit = float(query.get("timeoutSeconds", 0)) or float("inf")
        try:
            await answer.prepare(request)
            await self._stream(watch, answer, time.monotonic() + limit)
            if watch.reset and request.transport is not None:
                request.transport.abort()
            else:
                await answer.write_eof()
        except (ConnectionError, RuntimeError):  # the client is gone
            return answer
        finally:
            self._open.discard(watch)
        return answer

    def _replay(self, watch: Watch, since: str) -> None:
        if since in ("", "0"):
            for found in self._store.select(watch.target, watch.wanted):
                watch.send("ADDED", as_accepted(found, watch.accept))
            return
        if int(since) > self._store.version:
            raise Refusal(504, "Timeout", f"Too large resource version: {since}, current: {self._store.version}")
        try:
            for change in self._store.since(int(since)):
                watch.offer(change)
        except Refusal as refusal:  # the real one answers 200, then this event
            watch.send("ERROR", refusal.status)
            watch.lines.put_nowait(None)

    async def _stream(self, watch: Watch, answer: web.StreamResponse, end: float) -> None:
        while True:
            wait = min(self._bookmark_seconds or float("inf"), end - time.monotonic())
            try:
                line = await asyncio.wait_for(watch.lines.get(), None if wait == float("inf") else max(wait, 0))
            except TimeoutError:
                watch.bookmark(self._store.version)
                if time.monotonic() >= end:
                    watch.lines.put_nowait(None)  # after the last bookmark
                    end = float("inf")
                continue
            if line is None:
                return
            await answer.write(line)

    def _changed(self, change: Change) -> None:
        for watch in self._open:
            watch.offer(change)
