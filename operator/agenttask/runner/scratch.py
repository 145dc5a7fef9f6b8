"""The run's own folder, where HOME and TMPDIR of its commands are; it is gone with the run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agenttask.api.errors import StepFailed
from agenttask.domain.machine_limits import explained


@contextmanager
def scratch_folder(below: Path) -> Iterator[Path]:
    """A new folder with `home` and `tmp` in it.

    Raises:
        StepFailed: it cannot be made; the disk is full, or read-only.
    """
    made: Path | None = None
    try:
        try:
            made = Path(tempfile.mkdtemp(dir=below, prefix="agenttask-"))
            for name in ("home", "tmp"):
                (made / name).mkdir()
        except OSError as error:
            raise StepFailed(f"no folder for HOME and TMPDIR can be made in {str(below)!r}: {explained(error)}") from error
        yield made
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
