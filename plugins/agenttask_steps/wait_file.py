"""Waiting for a file that says that work is done.

A file that lay there before the command ran, unchanged, does not count: it is what an earlier run left. New is a file
whose inode, size or modification time is another than before, so no clock is compared. It counts from the moment that
it exists; whoever writes it under another name and renames it hands over a whole one. Where its content is checked, one
that is half written is waited for.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agenttask.api.errors import StepFailed
from agenttask_steps.content import Content, Inspected

_POLL_SECONDS = 0.25
_LOOK_AGAIN_MILLISECONDS = 500
"""Even with notifications: between the look and the watch a file can appear unseen, and network disks notify nobody."""
_STEP_MILLISECONDS = 20
Inspect = Callable[[Path, Content], Awaitable[Inspected]]


class AwaitedFile:
    """A file, with what was there before."""

    def __init__(self, path: Path, shown: str, content: Content | None, inspect: Inspect) -> None:
        """`inspect` checks the content away from the event loop."""
        self._path = path
        self._shown = shown
        self._content = content
        self._inspect = inspect
        self._before = _identity(path)
        self._found = Inspected()

    def appeared(self) -> bool:
        """Whether a file is there that was not before."""
        identity = _identity(self._path)
        return identity is not None and identity != self._before

    async def wait(self, seconds: float, *, stop: Callable[[], bool], log: Callable[[str], None]) -> Any:
        """Wait until the file is there and right, or until `stop()` says that it no longer matters; its JSON value.

        Raises:
            StepFailed: it was not within `seconds`; the message says what was wrong.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._watch(stop, log)
        except TimeoutError:
            raise StepFailed(self._complaint(seconds)) from None
        return self._found.value

    def _complaint(self, seconds: float) -> str:
        if self._found.problem is not None:
            return f"wait file {self._shown!r} was there, but not right within {seconds:g} s: {self._found.problem}"
        stale = "; the one that is there is from before the command" if self._before is not None else ""
        return f"wait file {self._shown!r} did not appear within {seconds:g} s{stale}"

    async def _done(self, stop: Callable[[], bool]) -> bool:
        if stop():
            return True
        if not self.appeared():
            return False
        if self._content is not None:
            self._found = await self._inspect(self._path, self._content)
        return self._found.problem is None

    async def _watch(self, stop: Callable[[], bool], log: Callable[[str], None]) -> None:
        try:
            while not await self._done(stop):
                await self._look(stop)
        except (OSError, RuntimeError) as error:  # no inotify watch left; watchfiles' own error is a RuntimeError
            log(f"files cannot be watched ({error}); looking for {self._shown!r} every {_POLL_SECONDS} s")
            while not await self._done(stop):  # noqa: ASYNC110 - the file system sets no event
                await asyncio.sleep(_POLL_SECONDS)

    async def _look(self, stop: Callable[[], bool]) -> None:
        """Watch the nearest folder that exists, until something happens that is worth a look."""
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
                if stop() or self.appeared() or _nearest_folder(self._path) != folder:
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
