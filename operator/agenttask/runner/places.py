"""Where a task's paths are: `/workspace` and `/inputs/<name>` as the task names them, and the folders behind them.

In a pod both are the same. In a local run (`agenttask run`) a task's `/inputs/repo/README.md` is a file below some
folder of this machine. Rules for every path: relative ones start at the workspace; `.` and `..` are folded first, then
symlinks are followed, and what comes out must lie inside of a place.
"""

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from agenttask.api.constants import INPUTS_PATH, WORKSPACE_PATH
from agenttask.api.errors import StepFailed

_MAX_PATH_BYTES = 4095
_MAX_NAME_BYTES = 255


class Place(Struct, frozen=True, kw_only=True):
    """A folder that the task may use: its name for the task, and its resolved path on this machine."""

    name: str
    folder: Path


class Places(Struct, frozen=True, kw_only=True):
    """The workspace and the inputs of one task."""

    workspace: Place
    inputs: tuple[Place, ...]

    def readable(self, path: str) -> Path:
        """The file behind a path of the task.

        Raises:
            StepFailed: outside of workspace and inputs, or no path at all.
        """
        return self._inside(path, (self.workspace, *self.inputs), "read from")

    def writable(self, path: str) -> Path:
        """The file behind a path below the workspace.

        Raises:
            StepFailed: outside of the workspace, the workspace itself, or no path at all.
        """
        found = self._inside(path, (self.workspace,), "written to")
        if found == self.workspace.folder:
            raise StepFailed(f"{path!r} is the workspace itself; name a file below it")
        return found

    def located(self, path: str) -> tuple[Place, str]:
        """The place that a path is in by its words, symlinks not looked at, and the rest below it ("" is the place itself).

        Raises:
            StepFailed: in none, or no path at all.
        """
        return self._place(path, (self.workspace, *self.inputs), "read from")

    def _inside(self, path: str, places: tuple[Place, ...], use: str) -> Path:
        place, rest = self._place(path, places, use)
        resolved = Path(os.path.realpath(place.folder / rest))
        if not any(resolved.is_relative_to(each.folder) for each in places):
            raise StepFailed(f"{path!r} leads out through a symlink; files can be {use} {_names(places)} only")
        return resolved

    def _place(self, path: str, places: tuple[Place, ...], use: str) -> tuple[Place, str]:
        _well_formed(path)
        whole = posixpath.normpath(posixpath.join(self.workspace.name, path))
        for place in places:
            for root in (place.name, str(place.folder)):
                if whole == root:
                    return place, ""
                if whole.startswith(root + "/"):
                    return place, whole[len(root) + 1 :]
        raise StepFailed(f"{path!r} is outside of what this task has; files can be {use} {_names(places)} only")


def places(workspace: Path, inputs: Mapping[str, Path]) -> Places:
    """The places of a task, by the input's name; blocking, once a run."""
    return Places(
        workspace=Place(name=WORKSPACE_PATH, folder=workspace.resolve()),
        inputs=tuple(Place(name=f"{INPUTS_PATH}/{name}", folder=folder.resolve()) for name, folder in inputs.items()),
    )


def _well_formed(path: str) -> None:
    if not path:
        raise StepFailed("a path is empty; name a file")
    if "\0" in path:
        raise StepFailed(f"{path!r} holds a NUL character; no file can be called so")
    size = len(os.fsencode(path)) if path.isprintable() else len(path.encode("utf-8", "surrogatepass"))
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in path.split("/"))
    if size > _MAX_PATH_BYTES or longest > _MAX_NAME_BYTES:
        raise StepFailed(
            f"{path[:80]!r}... is too long a path: {size} bytes, its longest name {longest}; "
            f"a path has at most {_MAX_PATH_BYTES}, a name {_MAX_NAME_BYTES}"
        )


def _names(places: tuple[Place, ...]) -> str:
    names = [place.name for place in places]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
