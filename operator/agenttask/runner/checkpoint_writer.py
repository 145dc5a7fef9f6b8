"""Saves a run's checkpoint: now and then, and at the end; in the background, so that no step waits for it.

A store that fails costs what a later attempt could have saved, and never this one: it is told in the log.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from agenttask.runner.cancelling import cancel
from agenttask.runner.checkpoint_shelf import Shelf
from agenttask.runner.checkpoint_store import CheckpointStore, CheckpointTooLarge, CheckpointUnavailable

_SMALLEST_BYTES = 16 * 1024
"""A store that has no room for as much has none."""

Change = Callable[[Shelf], object]


class Pace(Struct, frozen=True, kw_only=True):
    """How often a checkpoint is saved; in seconds."""

    pause: float = 1.0
    """How long a change waits for others to be saved with it."""
    quiet: float = 0.0
    """Of the run, in which nothing is saved, its end included: it is done again as soon."""
    gap: float = 0.0
    """Between two saves; a failed one is tried again after it."""
    bytes_a_second: int | None = None
    """On the average: after a large one the gap is longer."""
    when_succeeded: bool = True
    """Whether a run that succeeded saves its last: no attempt follows it."""


class CheckpointWriter:
    """Takes changes on the loop, and applies and saves them off it.

    Args:
        shelf: what the checkpoint holds.
        store: where it is saved.
        log: a line.
        pace: how often.
        elapsed: seconds since the run's start.
    """

    def __init__(
        self,
        shelf: Shelf,
        store: CheckpointStore,
        *,
        log: Callable[[str, str], None],
        pace: Pace = Pace(),  # noqa: B008  # frozen
        elapsed: float = 0.0,
    ) -> None:
        self._shelf = shelf
        self._store = store
        self._log = log
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._quiet_until = self._loop.time() + pace.quiet - elapsed
        self._next = self._quiet_until
        """Without a hurry nothing is saved before."""
        self._changes: list[Change] = []
        self._unsaved = False
        self._woken = asyncio.Event()
        self._hurry = asyncio.Event()
        self._saving = asyncio.Lock()
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._save_task: asyncio.Task[None] | None = None

    def seed(self, change: Change) -> None:
        """What the store has already; it is saved with the first change."""
        self._changes.append(change)

    def add(self, change: Change) -> None:
        """Something has ended; `change` is applied in a thread."""
        self._changes.append(change)
        self._unsaved = True
        self._wake()

    def hurry(self) -> None:
        """From now on save without a pause: the process is about to end."""
        self._hurry.set()

    async def flush(self) -> None:
        """Save what is not saved yet; one save is never begun before the one before it has ended, even if that was cancelled."""
        if self._loop.time() >= self._quiet_until:
            await self._flush()

    async def aclose(self) -> None:
        """Save the last, and stop."""
        await cancel(self._task)
        self._task = None
        await self.flush()

    async def shrink(self, limit: int) -> None:
        """Save what there is within so many bytes, changed or not, and in the quiet time too: the store may have an earlier attempt's."""
        self._changes.append(lambda shelf: shelf.shrink(limit))
        self._unsaved = True
        await self._flush()

    async def succeeded(self) -> None:
        """The run is done; where its last checkpoint is of no use, none is saved any more, nor waited for."""
        if not self._pace.when_succeeded:
            await cancel(self._task)
            await cancel(self._save_task)
            self._task, self._unsaved = None, False

    async def _flush(self) -> None:
        self._save_task = asyncio.create_task(self._save(), name="save checkpoint")
        await asyncio.shield(self._save_task)

    def _wake(self) -> None:
        self._woken.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="checkpoint")

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            try:
                async with asyncio.timeout(max(self._pace.pause, self._next - self._loop.time())):
                    await self._hurry.wait()
            except TimeoutError:  # it may come a little before its time
                save = self._flush
            else:
                save = self.flush
            self._woken.clear()
            await save()

    async def _save(self) -> None:
        async with self._saving:
            if not self._unsaved:
                return
            changes, self._changes, self._unsaved = self._changes, [], False
            try:
                size = await self._save_fitting(await asyncio.to_thread(self._apply, changes))
            except CheckpointUnavailable as error:
                self._unsaved = True
                self._failed(str(error))
            else:
                self._problem = None
                pace = self._pace
                self._next = self._loop.time() + max(pace.gap, 0.0 if pace.bytes_a_second is None else size / pace.bytes_a_second)

    async def _save_fitting(self, raw: bytes) -> int:
        """Save as much of it as the store has room for; how many bytes."""
        while True:
            try:
                await self._store.save(raw)
            except CheckpointTooLarge as error:
                if len(raw) <= _SMALLEST_BYTES:
                    raise
                limit = len(raw) // 2
                self._log("checkpoint", f"kept to {limit} bytes: {error}")
                raw = await asyncio.to_thread(self._shelf.shrink, limit)
                if len(raw) > limit:
                    raise
            else:
                return len(raw)

    def _failed(self, problem: str) -> None:
        if problem != self._problem:
            self._log("checkpoint", f"not saved: {problem}")
        self._problem = problem
        if self._pace.gap and not self._hurry.is_set():
            self._next = self._loop.time() + self._pace.gap
            self._woken.set()

    def _apply(self, changes: list[Change]) -> bytes:
        for change in changes:
            change(self._shelf)
        return self._shelf.document()
