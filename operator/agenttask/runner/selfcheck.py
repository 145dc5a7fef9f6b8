"""`agenttask-runner --check`: whether this image can run a task's pod, tried from inside the image.

Every line of the contract (docs/runner-image.md) that an image can break is looked at as a pod would use it, and at the
end one real task runs: a file is written, a command reads it, and the report comes out of the termination message.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api.constants import POD_UID, SCRATCH_PATH, WORKSPACE_PATH
from agenttask.api.document import DOCUMENT_VERSION, TaskDocument
from agenttask.api.report import MalformedReport, decode

_OLDEST_PYTHON: Final = (3, 11)
_WORD: Final = "agenttask"
_DOCUMENT: Final = {
    "task": {"name": "image-check", "namespace": "default", "uid": "00000000-0000-0000-0000-000000000000"},
    "spec": {
        "steps": [
            {"name": "write", "write": {"path": "check/word.txt", "content": _WORD}},
            {"name": "command", "exec": {"command": ["cat", "check/word.txt"]}},
            {"name": "read", "read": {"paths": ["check/word.txt"]}},
        ],
        "output": "{{ steps.command.text }}{{ steps.read.text }}",
    },
}


class Finding(Struct, frozen=True, kw_only=True):
    """One line of the contract; `problem` is empty when the image keeps it, else says what to do."""

    what: str
    seen: str
    problem: str = ""

    def line(self) -> str:
        """For a person, and for `agenttask image check`."""
        return f"{'FAIL' if self.problem else 'ok  '} {self.what}: {self.problem or self.seen}"


def check(environ: MutableMapping[str, str], run: Callable[[MutableMapping[str, str]], int]) -> Iterator[Finding]:
    """Every finding, in order; `run` is the runner itself, given an environment with the paths of a document."""
    yield _python()
    yield Finding(what="agenttask", seen=f"{version('agenttask')}, task documents up to version {DOCUMENT_VERSION}")
    yield _user(os.getuid(), os.getgid())
    for folder in (environ.get("AGENTTASK_WORKSPACE", WORKSPACE_PATH), environ.get("AGENTTASK_SCRATCH", SCRATCH_PATH)):
        yield _writable(Path(folder))
    yield _task(environ, run)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info[:2] < _OLDEST_PYTHON
    return Finding(what="Python", seen=found, problem=f"{found} is older than {'.'.join(map(str, _OLDEST_PYTHON))}" if old else "")


def _user(uid: int, gid: int) -> Finding:
    seen = f"uid {uid}, gid {gid}"
    wrong = "" if uid == POD_UID else f"{seen}; a pod runs as uid {POD_UID}: check the image as that user"
    return Finding(what="user", seen=seen, problem=wrong)


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return Finding(what=str(folder), seen="", problem=f"cannot be written to: {error.strerror}")
    return Finding(what=str(folder), seen="writable")


def _task(environ: MutableMapping[str, str], run: Callable[[MutableMapping[str, str]], int]) -> Finding:
    """One small task through the whole runner, in folders of its own."""
    what = "a task of three steps"
    with tempfile.TemporaryDirectory(dir=environ.get("AGENTTASK_SCRATCH", SCRATCH_PATH)) as folder:
        place = Path(folder)
        document, message, scratch, workspace = (place / name for name in ("document.json", "message", "tmp", "workspace"))
        scratch.mkdir()
        workspace.mkdir()
        message.touch()
        document.write_bytes(msgspec.json.encode(msgspec.convert(_DOCUMENT, TaskDocument)))
        moved = {
            "AGENTTASK_DOCUMENT": document,
            "AGENTTASK_TERMINATION": message,
            "AGENTTASK_WORKSPACE": workspace,
            "AGENTTASK_SCRATCH": scratch,
        }
        with redirect_stdout(sys.stderr):
            code = run({**environ, **{name: str(path) for name, path in moved.items()}})
        try:
            report = decode(message.read_bytes())
        except MalformedReport as error:
            return Finding(what=what, seen="", problem=f"left no report (exit code {code}): {error}")
    if report.error is not None:
        return Finding(what=what, seen="", problem=f"{report.error.reason}: {report.error.message}")
    right = report.output == _WORD + _WORD
    return Finding(what=what, seen="succeeded", problem="" if right else f"gave {report.output!r} in place of {_WORD + _WORD!r}")
