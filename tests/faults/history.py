"""What happened in one namespace: every version of every pod and task, and every write with its author.

Versions come from a watch that no fault touches, and that goes on where it was when the API server is restarted; writes
from the audit log. A line of that may come long after what it tells of: an answer of more than 4 KiB is sent before its
request is over, and a watch tells of it before that. So the order of writes is that of their times, not of their lines.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from msgspec import Struct

from tests.faults.api import Api, Object, Refused
from tests.faults.eventually import PATIENCE
from tests.faults.paths import path

WATCHED: Final = ("agenttasks", "pods")


class Version(Struct, frozen=True, kw_only=True):
    """An object as it was from some moment on; `kind` is ADDED, MODIFIED or DELETED."""

    kind: str
    plural: str
    object: Object
    at: float

    @property
    def uid(self) -> str:
        """Whose version it is."""
        return str(self.object["metadata"]["uid"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])


class Write(Struct, frozen=True, kw_only=True):
    """A request as the audit log has it, received at `at`; `agent` is the client program, `code` the status of the answer."""

    verb: str
    user: str
    agent: str
    plural: str
    namespace: str
    name: str
    subresource: str
    code: int
    sent: Object
    answered: Object
    at: datetime


class Recorder:
    """The versions, as they come; listeners hear of each."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self.versions: list[Version] = []
        self.listeners: list[Callable[[Version], None]] = []
        self._current: dict[tuple[str, str], Object] = {}
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for plural in WATCHED:
            listed = await self._api.get(path(plural, self._namespace))
            self._tasks.append(asyncio.create_task(self._record(plural, listed["metadata"]["resourceVersion"])))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        broken = next((one for one in done if isinstance(one, Exception)), None)
        if broken is not None:
            raise broken

    def task(self, name: str) -> Object | None:
        """The task of this name, as it is."""
        return self._current.get(("agenttasks", name))

    def status(self, name: str) -> Object:
        """A task's status; empty while it has none."""
        return (self.task(name) or {}).get("status") or {}

    def pods(self, task: str | None = None) -> list[Object]:
        """The pods that are there; those of one task by its label."""
        found = [one for (plural, _), one in self._current.items() if plural == "pods"]
        return [one for one in found if task is None or one["metadata"].get("labels", {}).get("agenttask.dev/task-name") == task]

    def ever(self, task: str) -> list[str]:
        """The names of all pods that a task ever had, in order of appearance, each as often as it was made."""
        return [
            one.name
            for one in self.versions
            if one.kind == "ADDED"
            and one.plural == "pods"
            and one.object["metadata"].get("labels", {}).get("agenttask.dev/task-name") == task
        ]

    async def until(self, wanted: Callable[[], object], seconds: float = PATIENCE, *, what: Callable[[], object] = lambda: "") -> None:
        """Wait for something that is read from here."""
        ends = asyncio.get_running_loop().time() + seconds
        while not wanted():
            broken = next((one for one in self._tasks if one.done()), None)
            if broken is not None:
                broken.result()
            left = ends - asyncio.get_running_loop().time()
            if left > 0:
                await self._news(min(left, 0.2))
                continue
            raise AssertionError(f"not within {seconds} s; {what()}; {self.summary()}")

    async def until_phase(self, name: str, *phases: str, seconds: float = PATIENCE) -> Object:
        """A task's status, once its phase is one of these."""
        await self.until(lambda: self.status(name).get("phase") in phases, seconds, what=lambda: f"{name}: {phases}")
        return self.status(name)

    def summary(self) -> str:
        """What there is, for a test that failed."""
        tasks = {
            name: (one.get("status", {}).get("phase"), one.get("status", {}).get("reason"))
            for (plural, name), one in self._current.items()
            if plural == "agenttasks"
        }
        pods = {name: one.get("status", {}).get("phase") for (plural, name), one in self._current.items() if plural == "pods"}
        return f"tasks {tasks}, pods {pods}"

    async def _record(self, plural: str, version: str) -> None:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                try:
                    if not version:
                        version = await self._list(plural)
                    async for kind, body in self._api.watch(path(plural, self._namespace), version):
                        if kind == "ERROR":
                            version = ""  # an API server that was started anew knows nothing of before
                            break
                        version = body["metadata"]["resourceVersion"]
                        if kind != "BOOKMARK":
                            await self._take(Version(kind=kind, plural=plural, object=body, at=time.time()))
                except Refused as refused:
                    if refused.status not in (410, 429, 500, 503, 504):
                        raise
                    version = version if refused.status != 410 else ""
            await asyncio.sleep(0.1)

    async def _list(self, plural: str) -> str:
        """What changed in a gap, as one version of each object."""
        listed = await self._api.get(path(plural, self._namespace))
        version = str(listed["metadata"]["resourceVersion"])
        known = {one["metadata"]["uid"]: one for (kind, _), one in self._current.items() if kind == plural}
        there = {one["metadata"]["uid"]: one for one in listed["items"]}
        for uid, body in known.items():
            if uid not in there:
                gone = body | {"metadata": body["metadata"] | {"resourceVersion": version}}
                await self._take(Version(kind="DELETED", plural=plural, object=gone, at=time.time()))
        for uid, body in there.items():
            if uid not in known:
                await self._take(Version(kind="ADDED", plural=plural, object=body, at=time.time()))
            elif known[uid]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                await self._take(Version(kind="MODIFIED", plural=plural, object=body, at=time.time()))
        return version

    async def _news(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait()

    async def _take(self, version: Version) -> None:
        self.versions.append(version)
        if version.kind == "DELETED":
            self._current.pop((version.plural, version.name), None)
        else:
            self._current[version.plural, version.name] = version.object
        for listener in self.listeners:
            listener(version)
        async with self._changed:
            self._changed.notify_all()


def read_writes(log: Path, offset: int, namespace: str) -> list[Write]:
    """What was asked of the API server in a namespace since the log had `offset` bytes."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().splitlines()
    wanted = f'"{namespace}"'.encode()  # other runs may write beside this one, and a line is long
    found = (json.loads(line) for line in lines if wanted in line)
    return [_write(one) for one in found if (one.get("objectRef") or {}).get("namespace") == namespace]


def begun_after(writes: Iterable[Write], moment: datetime) -> list[Write]:
    """What the API server received after a moment."""
    return [one for one in writes if one.at > moment]


def _write(event: dict[str, Any]) -> Write:
    ref = event["objectRef"]
    answered = event.get("responseObject") or {}
    sent = event.get("requestObject") or {}
    return Write(
        verb=event["verb"],
        user=event["user"]["username"],
        agent=event.get("userAgent", ""),
        plural=ref.get("resource", ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name") or sent.get("metadata", {}).get("name", ""),
        subresource=ref.get("subresource", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        sent=sent,
        answered=answered,
        at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
    )
