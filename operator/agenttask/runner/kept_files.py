"""`keepFiles`: small workspace files that go into the checkpoint, and come back into a new workspace.

A pattern that matches nothing keeps nothing: the next attempt then finds what this one had, no file. A symlink is
followed inside of the workspace only.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from agenttask.api.checkpoint import MAX_KEPT_FILE_BYTES, MAX_KEPT_FILES_BYTES, KeptFile
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.domain.machine_limits import explained
from agenttask.runner.globs import MAX_FILES, TooManyFiles, matching
from agenttask.runner.places import Places

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def collect(places: Places, patterns: Sequence[str]) -> tuple[KeptFile, ...]:
    """The files that match, by their path below the workspace, each once; blocking.

    Raises:
        StepFailed: a pattern is outside of the workspace, or a file cannot be read.
        OutputTooLarge: a file, or all of them, are larger than a checkpoint takes.
    """
    found: dict[str, KeptFile] = {}
    size = 0
    for pattern in patterns:
        for name in _matching(places, pattern):
            if name in found:
                continue
            kept = _read(places.workspace.folder, name)
            if kept is None:
                continue
            found[name] = kept
            size += len(kept.content)
            if size > MAX_KEPT_FILES_BYTES:
                raise OutputTooLarge(
                    f"keepFiles match more than {MAX_KEPT_FILES_BYTES} bytes in all, at {name!r}; keep fewer or smaller files, "
                    "or use a workspace that persists"
                )
    return tuple(found[name] for name in sorted(found))


def restore(places: Places, files: Iterable[KeptFile]) -> None:
    """Put files back below the workspace, over what is there; blocking.

    Raises:
        StepFailed: a path leads out of the workspace, or cannot be written.
    """
    for file in files:
        target = places.writable(file.path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a program that is running cannot be written to
            target.write_bytes(file.content)
            target.chmod(0o755 if file.executable else 0o644)
        except OSError as error:
            raise StepFailed(f"the kept file {file.path!r} cannot be put back: {explained(error)}") from error


def _matching(places: Places, pattern: str) -> list[str]:
    place, rest = places.located(pattern)
    if place != places.workspace or not rest:
        raise StepFailed(f"keepFiles {pattern!r} names no file below {places.workspace.name}")
    try:
        return matching(place.folder, rest)
    except TooManyFiles:
        raise StepFailed(f"keepFiles {pattern!r} matches more than {MAX_FILES} files; a narrower pattern is needed") from None
    except OSError as error:
        raise StepFailed(f"keepFiles {pattern!r}: {error.strerror}") from error


def _read(folder: Path, name: str) -> KeptFile | None:
    """A regular file; None where the name leads out of the workspace."""
    resolved = Path(os.path.realpath(folder / name))
    if not resolved.is_relative_to(folder):
        return None
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StepFailed(f"the file {name!r} cannot be kept: its name is not UTF-8") from error
    try:
        descriptor = os.open(resolved, _READ)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            content = file.read(MAX_KEPT_FILE_BYTES + 1) if stat.S_ISREG(mode) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StepFailed(f"the file {name!r} cannot be kept: {error.strerror}") from error
    if content is None:
        return None
    if len(content) > MAX_KEPT_FILE_BYTES:
        raise OutputTooLarge(
            f"the file {name!r} has more than {MAX_KEPT_FILE_BYTES} bytes, the most that keepFiles takes of one file; "
            "keep smaller ones, or use a workspace that persists"
        )
    return KeptFile(path=name, content=content, executable=bool(mode & stat.S_IXUSR))
