"""Files for the steps, under the rules of `places`: UTF-8 texts are read with a bound, and written atomically.

The rules keep mistakes, and paths that a model made up, inside of the task's folders. They are no wall against
processes of the task itself: a command may swap a folder for a symlink between the check and the opening (what
`openat2` would prevent), but it runs in the same container under the same user, where it reaches the same files anyway.
The last part of a path is opened without following a symlink, and only a regular file is read, so a pipe hangs nobody.
"""

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiofiles

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.domain.machine_limits import explained
from agenttask.plugin.threading import ThreadingStrategy, WorkKind
from agenttask.runner.globs import MAX_FILES, TooManyFiles, is_pattern, matching
from agenttask.runner.places import Place, Places

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MODE = 0o644


class TaskFiles:
    """The `Files` of one task (plugin/step.py)."""

    def __init__(self, places: Places, threads: ThreadingStrategy) -> None:
        self._places = places
        self._threads = threads

    def readable(self, path: str) -> Path:
        """The resolved path, inside of workspace or inputs."""
        return self._places.readable(path)

    def writable(self, path: str) -> Path:
        """The resolved path below the workspace."""
        return self._places.writable(path)

    async def glob(self, pattern: str) -> Sequence[Path]:
        """The readable files that match, sorted, symlinks not resolved; a plain path is itself.

        Those of an input have the name that the task gave (`/inputs/<name>/...`), wherever it lies. A match that leads out
        through a symlink is not readable and so left out.
        """
        place, rest = self._places.located(pattern)
        if not is_pattern(rest):
            await self._threads.run(WorkKind.BLOCKING_IO, self._places.readable, pattern)
            return [self._shown(place, rest)]
        try:
            readable = await self._threads.run(WorkKind.BLOCKING_IO, self._matching, place, rest)
        except TooManyFiles:
            raise StepFailed(f"{pattern!r} matches more than {MAX_FILES} files; a narrower pattern is needed") from None
        except OSError as error:
            raise StepFailed(f"{pattern!r}: {error.strerror}") from error
        if not readable:
            raise StepFailed(f"{pattern!r} matches no file in {place.name}")
        return readable

    async def read_text(self, path: Path) -> str:
        """A UTF-8 file of at most `MAX_STEP_TEXT_BYTES`."""
        return await self._threads.run(WorkKind.BLOCKING_IO, self._read, str(path))

    async def write_text(self, path: str, content: str) -> Path:
        """Write below the workspace: a temporary file beside it takes its name when it is whole, with mode 0644."""
        try:
            return await self._threads.run(WorkKind.BLOCKING_IO, self._write, path, content)
        except UnicodeEncodeError as error:
            raise StepFailed(f"{path!r} cannot be written as UTF-8: half of a surrogate pair at character {error.start}") from error
        except OSError as error:
            raise StepFailed(f"{path!r} cannot be written: {explained(error)}") from error

    async def write_stream(self, path: str, chunks: AsyncIterator[bytes]) -> Path:
        """Write below the workspace as it comes, to a temporary file that takes the name when all is there."""
        target = await self._threads.run(WorkKind.BLOCKING_IO, self._places.writable, path)
        temporary = target.parent / f".agenttask-{secrets.token_hex(8)}.tmp"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            async with aiofiles.open(temporary, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, _MODE)) as file:
                async for chunk in chunks:
                    await file.write(chunk)
                os.fchmod(file.fileno(), _MODE)
            temporary.replace(target)
        except OSError as error:
            raise StepFailed(f"{path!r} cannot be written: {explained(error)}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return target

    def _matching(self, place: Place, pattern: str) -> list[Path]:
        """Blocking, as the next two are."""
        return [path for name in matching(place.folder, pattern) if self._is_readable(str(path := self._shown(place, name)))]

    def _read(self, shown: str) -> str:
        resolved = self._places.readable(shown)
        try:
            with open(resolved, "rb", opener=lambda name, _: os.open(name, _READ)) as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(MAX_STEP_TEXT_BYTES + 1) if stat.S_ISREG(mode) else None
        except OSError as error:
            raise StepFailed(_read_problem(shown, error)) from error
        if raw is None:
            raise StepFailed(f"{shown!r} is no regular file")
        if len(raw) > MAX_STEP_TEXT_BYTES:
            raise OutputTooLarge(f"{shown!r} has more than {MAX_STEP_TEXT_BYTES} bytes, the most that a step may hand on; split it")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise StepFailed(f"{shown!r} is not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from error

    def _write(self, path: str, content: str) -> Path:
        target = self._places.writable(path)
        write_atomically(target, content.encode())
        return target

    def _shown(self, place: Place, rest: str) -> Path:
        """The workspace's files by their own path, as its folder is the steps' working folder; an input's by the task's name."""
        return Path(place.folder if place == self._places.workspace else place.name, rest)

    def _is_readable(self, path: str) -> bool:
        with contextlib.suppress(StepFailed):
            self._places.readable(path)
            return True
        return False


def write_atomically(target: Path, content: bytes) -> None:
    """Write the file, or leave what was there; blocking. No fsync: the workspace does not outlive the node."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".agenttask-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), _MODE)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _read_problem(shown: str, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"{shown!r} is not there"
        case IsADirectoryError():
            return f"{shown!r} is a folder; name files, or a pattern as {shown + '/*'!r}"
        case _:
            return f"{shown!r} cannot be read: {explained(error)}"
