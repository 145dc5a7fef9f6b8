"""Saves a run's checkpoint: at most once a second, and at the end; in the background, so that no step waits for it.

A store that fails costs what a later attempt could have saved, and never this one: it is told in the log.
"""

import asyncio
import contextlib
from collections.abc import Callable

from agenttask.runner.checkpoint_shelf import Shelf
from agenttask.runner.checkpoint_store import CheckpointStore, CheckpointUnavailable

PAUSE_SECONDS = 1.0

Change = Callable[[Shelf], None]


class CheckpointWriter:
    """Takes changes on the loop, and applies and saves them off it.

    Args:
        shelf: what the checkpoint holds.
        store: where it is saved.
        log: a line.
        pause_seconds: how long a change waits for others to be saved with it.
    """

    def __init__(
        self, shelf: Shelf, store: CheckpointStore, *, log: Callable[[str, str], None], pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._shelf = shelf
        self._store = store
        self._log = log
        self._pause_seconds = pause_seconds
        self._changes: list[Change] = []
        self._unsaved = False
        self._woken = asyncio.Event()
        self._hurry = asyncio.Event()
        self._saving = asyncio.Lock()
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, change: Change) -> None:
        """Something has ended; `change` is applied in a thread."""
        self._changes.append(change)
        self._woken.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="checkpoint")

    def hurry(self) -> None:
        """From now on save without a pause: the process is about to end."""
        self._hurry.set()

    async def flush(self) -> None:
        """Save what is not saved yet; one save is never begun before the one before it has ended, even if that was cancelled."""
        await asyncio.shield(asyncio.create_task(self._save(), name="save checkpoint"))

    async def aclose(self) -> None:
        """Save the last, and stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self.flush()

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_seconds):
                    await self._hurry.wait()
            self._woken.clear()
            await self.flush()

    async def _save(self) -> None:
        async with self._saving:
            changes, self._changes = self._changes, []
            self._unsaved = self._unsaved or bool(changes)
            if not self._unsaved:
                return
            raw = await asyncio.to_thread(self._apply, changes)
            try:
                await self._store.save(raw)
            except CheckpointUnavailable as error:
                if str(error) != self._problem:
                    self._log("checkpoint", f"not saved: {error}")
                self._problem = str(error)
            else:
                self._unsaved, self._problem = False, None

    def _apply(self, changes: list[Change]) -> bytes:
        for change in changes:
            change(self._shelf)
        return self._shelf.document()
