"""Deletes tasks whose `ttlSecondsAfterFinished` is over, and with them, by the garbage collector, their pods.

Finished tasks are in no cache. A paged list of them at start and every few minutes finds those that fall due before the
next one; a task that ends meanwhile is noted by itself. What is noted is bounded: the rest is found by the next list.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.meta import ObjectMeta
from agenttask.api.reasons import Phase
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_errors import Conflict, Forbidden, KubeError, NotFound
from agenttask.controller.kube_paths import task_path, tasks_path
from agenttask.controller.world import Writer
from agenttask.domain.moment import GRAIN, parse
from agenttask.domain.observation import SeenTask

logger: Final = logging.getLogger(__name__)
LIST_SECONDS: Final = 600.0
MOST_NOTED: Final = 20_000
"""Entries of 0.3 KB."""
DELETES_PER_SECOND: Final = 20.0
_AGAIN_SECONDS: Final = 30.0


class _Spec(Struct, frozen=True, rename="camel"):
    ttl_seconds_after_finished: int | None = None


class _Status(Struct, frozen=True, rename="camel"):
    completion_time: str | None = None


class _Finished(Struct, frozen=True):
    metadata: ObjectMeta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Page(Struct, frozen=True):
    items: list[_Finished] | None = None


class _Due(Struct, frozen=True, order=True):
    at: float
    uid: str
    namespace: str
    name: str


_decode_page: Final = msgspec.json.Decoder(_Page).decode


class Expiry:
    """The finished tasks that fall due soon; `clock` in Unix seconds."""

    def __init__(self, client: KubeClient, writer: Writer, namespaces: Sequence[str | None], *, clock: Callable[[], float]) -> None:
        self._client, self._writer, self._namespaces, self._clock = client, writer, namespaces, clock
        self._due: list[_Due] = []
        self._noted: set[str] = set()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def note(self, task: SeenTask, status: AgentTaskStatus) -> None:
        """A task has just ended."""
        if task.spec is not None:
            self._note(task.metadata, task.spec.ttl_seconds_after_finished, status.completion_time)

    async def run(self) -> None:
        """List now and then, delete in between, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._list_for_ever())
            group.create_task(self._delete_for_ever())

    async def find(self) -> None:
        """Note what falls due before the next list; a namespace that is forbidden keeps no other's."""
        for namespace in self._namespaces:
            try:
                await self._find_in(namespace)
            except Forbidden as error:
                logger.warning("finished tasks of %s are not found: %s; again in %.0f s", tasks_path(namespace), error, LIST_SECONDS)

    async def delete_due(self) -> int:
        """Delete what is due, and tell how many tasks that was; what the API server refuses comes again."""
        done = 0
        for one in self._take():
            done += await self._delete(one)
            await asyncio.sleep(1.0 / DELETES_PER_SECOND)  # whatever the answer: thousands of refusals are a storm too
        return done

    async def _delete(self, one: _Due) -> bool:
        try:
            await self._writer.delete(task_path(one.namespace, one.name), uid=one.uid)
        except (NotFound, Conflict):
            return False  # somebody was faster, or made another one under its name
        except KubeError as error:
            logger.warning("%s/%s: not deleted after its TTL: %s; again in %.0f s", one.namespace, one.name, error, _AGAIN_SECONDS)
            self._push(msgspec.structs.replace(one, at=self._clock() + _AGAIN_SECONDS))
            return False
        logger.info("%s/%s: deleted, ttlSecondsAfterFinished is over", one.namespace, one.name)
        return True

    async def _find_in(self, namespace: str | None) -> None:
        for phase in (phase for phase in Phase if phase.terminal):
            async for page in self._client.list(tasks_path(namespace), field_selector=f"status.phase={phase}"):
                for one in _decode_page(page).items or ():
                    self._note(one.metadata, one.spec.ttl_seconds_after_finished, one.status.completion_time)

    def _note(self, metadata: ObjectMeta, ttl: int | None, completed: str | None) -> None:
        ended = parse(completed)
        if ttl is None or ended is None or metadata.uid in self._noted or len(self._due) >= MOST_NOTED:
            return
        at = ended + ttl + GRAIN
        if at - self._clock() <= LIST_SECONDS:
            self._push(_Due(at=at, uid=metadata.uid, namespace=metadata.namespace, name=metadata.name))

    def _push(self, one: _Due) -> None:
        heapq.heappush(self._due, one)
        self._noted.add(one.uid)
        self._news.set()

    def _take(self) -> Iterator[_Due]:
        while self._due and self._due[0].at <= self._clock():
            one = heapq.heappop(self._due)
            self._noted.discard(one.uid)
            yield one

    async def _list_for_ever(self) -> None:
        while True:
            try:
                await self.find()
            except KubeError as error:
                logger.warning("cannot list finished tasks: %s; again in %.0f s", error, _AGAIN_SECONDS)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                await asyncio.sleep(LIST_SECONDS)

    async def _delete_for_ever(self) -> None:
        while True:
            self._news.clear()
            await self.delete_due()
            wait = max(0.0, self._due[0].at - self._clock()) if self._due else LIST_SECONDS
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass
