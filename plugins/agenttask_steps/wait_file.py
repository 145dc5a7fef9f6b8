"""Waiting for a file that says that work is done.

A file that lay there before the command ran, unchanged, does not count: it is what an earlier run left. New is a file
whose inode, size or modification time is another than before, so no clock is compared. It counts from the moment that
it exists; whoever writes it under another name and renames it hands over a whole one.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from agenttask.api.errors import StepFailed

_POLL_SECONDS = 0.25
_LOOK_AGAIN_MILLISECONDS = 500
"""Even with notifications: between the look and the watch a file can appear unseen, and network disks notify nobody."""
_STEP_MILLISECONDS = 20


class AwaitedFile:
    """A file, with what was there before."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self._shown = shown
        self._before = _identity(path)

    def appeared(self) -> bool:
        """Whether a file is there that was not before."""
        identity = _identity(self._path)
        return identity is not None and identity != self._before

    async def wait(self, seconds: float, *, stop: Callable[[], bool], log: Callable[[str], None]) -> None:
        """Wait until the file appears, or until `stop()` says that it no longer matters.

        Raises:
            StepFailed: it did not appear within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._watch(lambda: self.appeared() or stop(), log)
        except TimeoutError:
            stale = "; the one that is there is from before the command" if self._before is not None else ""
            raise StepFailed(f"wait file {self._shown!r} did not appear within {seconds:g} s{stale}") from None

    async def _watch(self, done: Callable[[], bool], log: Callable[[str], None]) -> None:
        try:
            while not done():
                await self._look(done)
        except (OSError, RuntimeError) as error:  # no inotify watch left; watchfiles' own error is a RuntimeError
            log(f"files cannot be watched ({error}); looking for {self._shown!r} every {_POLL_SECONDS} s")
            while not done():  # noqa: ASYNC110 - the file system sets no event
                await asyncio.sleep(_POLL_SECONDS)

    async def _look(self, done: Callable[[], bool]) -> None:
        """Watch the nearest folder that exists, until the work is done or a nearer one exists."""
        import watchfiles  # the controller loads this module for the kind's name, and its image has no watchfiles

        folder = _nearest_folder(self._path)
        changes = watchfiles.awatch(
            folder,
            watch_filter=None,
            debounce=_STEP_MILLISECONDS,
            step=_STEP_MILLISECONDS,
            rust_timeout=_LOOK_AGAIN_MILLISECONDS,
            yield_on_timeout=True,
            recursive=False,
        )
        async with contextlib.aclosing(changes):
            async for _ in changes:
                if done() or _nearest_folder(self._path) != folder:
                    return


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return None if stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_mtime_ns, found.st_size)


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next((folder for folder in path.parents if folder.is_dir()), Path(os.sep))
