"""How much of a task runs at once: a slot for each running step and each running item of `forEach`.

One place counts the task's slots and those of each kind, and gives both at once: whoever waits holds nothing, so steps
and items cannot wait for each other. Who goes first: the higher priority; among equals the step that has had fewest turns since
it came, so that a long list does not keep a short step waiting; then the order of the spec, and of the list.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct
from msgspec.structs import replace

from agenttask.api.errors import AgentTaskError


class Claim(Struct, frozen=True, kw_only=True):
    """Who wants a slot: a step by its index in the spec, of a task by its name where tasks share slots."""

    index: int
    kind: str
    priority: int = 0
    task: str = ""

    @property
    def step(self) -> tuple[str, int]:
        """Which step it is."""
        return self.task, self.index


class Slots:
    """The slots of one task, for one event loop; `by_kind` limits some kinds further.

    `within` are the slots of all tasks of the process, of which each holder has one too; this task's claims are under `name` there.
    """

    def __init__(self, limit: int, by_kind: Mapping[str, int], *, within: "Slots | None" = None, name: str = "") -> None:
        self._within = within
        self._name = name
        self._limit = limit
        self._by_kind = by_kind
        self._kinds: Counter[str] = Counter()
        """Slots that are given, by kind."""
        self._turns: dict[tuple[str, int], int] = {}
        """Which turn is a step's next one; whoever comes late begins at `_turn`, and has no arrears."""
        self._turn = 0
        self._planned = False
        self._waiting: dict[Claim, deque[asyncio.Future[None]]] = {}
        self._closed: AgentTaskError | None = None
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def hold(self, claim: Claim) -> AsyncIterator[None]:
        """Wait for a slot, and have it.

        Raises:
            AgentTaskError: the slots are closed; no try starts any more.
        """
        await self._take(claim)
        try:
            if self._within is None:
                yield
            else:
                async with self._within.hold(replace(claim, task=self._name)):
                    yield
        finally:
            self._give(claim)

    def close(self, why: AgentTaskError) -> None:
        """No slot is given from now on: whoever waits, or comes later, gets this error. Those that have one keep it."""
        if self._closed is not None:
            return
        self._closed = why
        self._closing.set()
        self.dismiss(why)
        if self._within is not None:
            self._within.dismiss(why, self._name)

    def dismiss(self, why: AgentTaskError, task: str | None = None) -> None:
        """Whoever waits gets this error; of one task only, where one is named."""
        for claim in [claim for claim in self._waiting if task in (None, claim.task)]:
            for ticket in self._waiting.pop(claim):
                if not ticket.done():
                    ticket.set_exception(why)

    async def pause(self, seconds: float) -> None:
        """Wait without a slot.

        Raises:
            AgentTaskError: the slots were closed meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        assert self._closed is not None
        raise self._closed

    async def _take(self, claim: Claim) -> None:
        if self._closed is not None:
            raise self._closed
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(claim, deque())
        if not _live(queue):
            self._turns[claim.step] = max(self._turns.get(claim.step, 0), self._turn)
        queue.append(ticket)
        self._wake()
        try:
            await ticket
            if self._closed is not None:
                raise self._closed
        except (asyncio.CancelledError, AgentTaskError):
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:  # given, and not to be used any more
                self._give(claim)
            raise

    def _give(self, claim: Claim) -> None:
        self._kinds[claim.kind] -= 1
        self._wake()

    def _wake(self) -> None:
        """Give what is free, once everybody who comes in this turn of the loop is there, and whoever fails in it has closed."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        """Give free slots to those who go first among the kinds that have room."""
        self._planned = False
        while self._kinds.total() < self._limit:
            able = [claim for claim, queue in self._waiting.items() if self._has_room(claim.kind) and _live(queue)]
            if not able:
                return
            claim = min(able, key=lambda each: (-each.priority, self._turns[each.step], each.index))
            ticket = self._waiting[claim].popleft()
            self._turn = max(self._turn, self._turns[claim.step])
            self._turns[claim.step] += 1
            self._kinds[claim.kind] += 1
            ticket.set_result(None)

    def _has_room(self, kind: str) -> bool:
        return kind not in self._by_kind or self._kinds[kind] < self._by_kind[kind]


def _live(queue: "deque[asyncio.Future[None]]") -> bool:
    """Whether somebody still waits here; who was cancelled is forgotten."""
    while queue and queue[0].done():
        queue.popleft()
    return bool(queue)
