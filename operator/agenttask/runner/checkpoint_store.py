"""Where checkpoints live: a port, this process's memory, and a file that is replaced as a whole."""

import asyncio
import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Protocol

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class CheckpointUnavailable(Exception):
    """The store cannot be read or written now; the message says why."""


class CheckpointTooLarge(CheckpointUnavailable):
    """The store has no room for as much; less of it may fit."""


class CheckpointStore(Protocol):
    """Keeps one checkpoint of one task. Neither method blocks the loop; `save` is never called twice at once."""

    async def load(self) -> bytes | None:
        """What was saved last; None where nothing was.

        Raises:
            CheckpointUnavailable: it cannot be read.
        """
        ...

    async def save(self, raw: bytes) -> None:
        """Replace it, as a whole or not at all.

        Raises:
            CheckpointUnavailable: it cannot be written.
            CheckpointTooLarge: it would fit if it were smaller.
        """
        ...


class MemoryStore:
    """In this process; for runs one after another, as of `agenttask run --watch`."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content

    async def load(self) -> bytes | None:
        """What was saved last."""
        return self.content

    async def save(self, raw: bytes) -> None:
        """Remember it."""
        self.content = raw


class FileStore:
    """A file, readable for its owner only: it holds what the task's steps have handed on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def load(self) -> bytes | None:
        """The file's content, or None without a file."""
        try:
            return await asyncio.to_thread(self._read)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointUnavailable(f"{str(self._path)!r} cannot be read: {error.strerror}") from error

    async def save(self, raw: bytes) -> None:
        """Write a temporary file beside it, and give it the name. Without fsync: a node that dies takes the volume's last second too."""
        try:
            await asyncio.to_thread(self._write, raw)
        except OSError as error:
            raise CheckpointUnavailable(f"{str(self._path)!r} cannot be written: {error.strerror}") from error

    def _read(self) -> bytes:
        """At most one byte more than is allowed, so that `decode` sees that it is too much."""
        descriptor = os.open(self._path, _READ)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CheckpointUnavailable(f"{str(self._path)!r} is no regular file")
            return file.read(MAX_CHECKPOINT_BYTES + 1)

    def _write(self, raw: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
            Path(temporary).replace(self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
