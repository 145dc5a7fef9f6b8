"""Installs Phoenix into an environment of its own: 147 packages in pinned versions, which ours must not meet.

Kept outside of the checkout under a name made from the requirements, so that it is installed once (1-2 minutes,
850 MB) and again only when they change. `python -m tests.phoenix.install` does it ahead of the tests.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.installing import cache_folder, locked, run_telling

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "phoenix.txt"
_PROGRESS_SECONDS = 5.0


def python_of_phoenix(say: Callable[[str], None], *, cache: Path | None = None) -> Path:
    """The interpreter of an environment that has Phoenix; `say` is told how the installation goes.

    Raises:
        RuntimeError: it cannot be installed; the message has the installer's last words.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + version.encode()).hexdigest()[:12]
    root = (cache or cache_folder()) / f"phoenix-{digest}"
    python, complete = root / "bin" / "python", root / "complete"
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.with_suffix(".lock")):
        if not complete.exists():
            say(f"installing Phoenix into {root} (once, 1-2 minutes)")
            shutil.rmtree(root, ignore_errors=True)
            for command in _commands(root, python):
                _run(command, say)
            complete.touch()
    return python


def _commands(root: Path, python: Path) -> list[list[str]]:
    """With uv where it is there, else with pip; both check every hash."""
    uv = shutil.which("uv")
    if uv is not None:
        return [
            [uv, "venv", "--python", sys.executable, str(root)],
            [uv, "pip", "install", "--python", str(python), "--require-hashes", "-r", str(REQUIREMENTS)],
        ]
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    return [[sys.executable, "-m", "venv", str(root)], [*pip, "--require-hashes", "-r", str(REQUIREMENTS)]]


def _run(command: list[str], say: Callable[[str], None]) -> None:
    status, last = run_telling(command, say, every_seconds=_PROGRESS_SECONDS)
    if status != 0:
        raise RuntimeError(f"Phoenix cannot be installed: {' '.join(command)} exited {status}:\n{last}")


if __name__ == "__main__":
    sys.stdout.write(f"{python_of_phoenix(lambda line: print(line, file=sys.stderr, flush=True))}\n")  # noqa: T201 - a command
