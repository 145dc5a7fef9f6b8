"""Builds a program from its Go module by the ordinary client, once for all tests.

It is kept outside of the checkout under a name made from the module's version and Go's. Go checks the module by its checksum database.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    folder = (cache or _cache()) / f"{name}-{hashlib.sha256((module + version).encode()).hexdigest()[:12]}"
    program = folder / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not program.exists():
            say(f"building {module} into {folder} (once, 1-4 minutes)")
            _build(go, module, folder, say)
    return program


def _cache() -> Path:
    return Path(os.environ.get("AGENTTASK_CACHE") or Path.home() / ".cache" / "agenttask")


def _build(go: str, module: str, folder: Path, say: Callable[[str], None]) -> None:
    """Whole or not at all: Go puts the program in place when it is done."""
    settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOBIN": str(folder)}
    command = [go, "install", "-v", "-trimpath", "-ldflags", "-s -w", module]
    lines: list[str] = []
    said = time.monotonic()
    with subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if time.monotonic() - said > _PROGRESS_SECONDS:
                said = time.monotonic()
                say(f"  {len(lines)}: {lines[-1][:100]}")
    if process.returncode != 0:
        last = "\n".join(lines[-10:])
        if _TOO_OLD in last:
            raise NoGo(f"{go} is too old for {module}:\n{last}")
        raise RuntimeError(f"{module} cannot be built: {' '.join(command)} exited {process.returncode}:\n{last}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One build at a time, also among test runs."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
