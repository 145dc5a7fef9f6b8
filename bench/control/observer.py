"""One pair of watches for every contender: when a task's pod appears, when the pod has ended, when the task is complete."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator

from bench.control.connection import Access, Api
from bench.control.following import follow
from bench.control.objects import PODS
from msgspec import Struct


class Owner(Struct, gc=False):
    """An owner reference."""

    name: str


class Metadata(Struct, gc=False, rename="camel"):
    """Of anything."""

    name: str
    uid: str
    owner_references: list[Owner] = []


class Status(Struct, frozen=True, gc=False, rename="camel"):
    """Of a pod, an AgentTask or a Job."""

    phase: str = ""
    completion_time: str = ""
    failed: int = 0


class Object(Struct, gc=False):
    """What the observer reads of anything."""

    metadata: Metadata
    status: Status = Status()


class Observer:
    """Moments are CLOCK_MONOTONIC seconds by the task's name; a pod without an owner counts by its own name."""

    def __init__(self) -> None:
        self.pod_seen: dict[str, float] = {}
        self.pod_ended: dict[str, float] = {}
        self.completed: dict[str, float] = {}
        self.failed: set[str] = set()
        self.pods_of: Counter[str] = Counter()
        self._pods: set[str] = set()

    def on_pod(self, kind: str, pod: Object) -> None:
        """A pod appeared or changed."""
        now = time.monotonic()
        name = pod.metadata.owner_references[0].name if pod.metadata.owner_references else pod.metadata.name
        if kind != "DELETED" and pod.metadata.uid not in self._pods:
            self._pods.add(pod.metadata.uid)
            self.pods_of[name] += 1
            self.pod_seen.setdefault(name, now)
        if pod.status.phase in ("Succeeded", "Failed"):
            self.pod_ended.setdefault(name, now)

    def on_owner(self, _kind: str, owner: Object) -> None:
        """A task or Job appeared or changed."""
        if owner.status.completion_time or owner.status.phase == "Succeeded":
            self.completed.setdefault(owner.metadata.name, time.monotonic())
        elif owner.status.phase == "Failed" or owner.status.failed:
            self.failed.add(owner.metadata.name)

    async def until(self, what: dict[str, float], prefix: str, count: int, seconds: float) -> bool:
        """Whether so many with this prefix are there in time."""
        end = time.monotonic() + seconds
        while sum(name.startswith(prefix) for name in what) < count:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.2)
        return True


@contextlib.asynccontextmanager
async def observing(access: Access, owners: str) -> AsyncIterator[Observer]:
    """An observer of the bench's pods and of these owners, synced."""
    observer = Observer()
    ready = asyncio.Event(), asyncio.Event()
    async with Api(access) as api:
        watches = [
            asyncio.create_task(follow(api, PODS, Object, observer.on_pod, ready=ready[0])),
            asyncio.create_task(follow(api, owners, Object, observer.on_owner, ready=ready[1])),
        ]
        try:
            for one in ready:
                await one.wait()
            yield observer
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
