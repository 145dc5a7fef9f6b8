"""Builds a program from its Go module by the ordinary client, once for all tests.

It is kept outside of the checkout under a name made from the module's version and Go's. Go checks the module by its checksum database.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.installing import cache_folder, locked, run_telling

_ELSEWHERE = Path("/usr/local/go/bin")
_PROGRESS_SECONDS = 15.0
_TOO_OLD = "requires go >="


class NoGo(Exception):
    """There is nothing to build it with."""


def go_install(module: str, say: Callable[[str], None], *, cache: Path | None = None) -> Path:
    """The program of a package such as `example.com/server/cmd/server@v1.2.3`; `say` is told how the build goes (1-4 minutes).

    Raises:
        NoGo: none in PATH, or one that is too old for it.
        RuntimeError: it cannot be built; the message has the last words of Go.
    """
    go = shutil.which("go") or shutil.which("go", path=str(_ELSEWHERE))
    if go is None:
        raise NoGo(f"no go in PATH: it builds {module}")
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
    name = module.partition("@")[0].rpartition("/")[2]
    folder = (cache or cache_folder()) / f"{name}-{hashlib.sha256((module + version).encode()).hexdigest()[:12]}"
    program = folder / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not program.exists():
            say(f"building {module} into {folder} (once, 1-4 minutes)")
            _build(go, module, folder, say)
    return program


def _build(go: str, module: str, folder: Path, say: Callable[[str], None]) -> None:
    """Whole or not at all: Go puts the program in place when it is done."""
    settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOBIN": str(folder)}
    command = [go, "install", "-v", "-trimpath", "-ldflags", "-s -w", module]
    status, last = run_telling(command, say, every_seconds=_PROGRESS_SECONDS, environ={**os.environ, **settings})
    if status != 0:
        if _TOO_OLD in last:
            raise NoGo(f"{go} is too old for {module}:\n{last}")
        raise RuntimeError(f"{module} cannot be built: {' '.join(command)} exited {status}:\n{last}")
