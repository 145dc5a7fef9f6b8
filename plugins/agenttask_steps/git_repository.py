"""The repository that a step works in: found below the workspace only, held while the step runs."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct

from agenttask.api.errors import StepFailed
from agenttask.plugin.step import StepContext
from agenttask_steps.exclusive import held, repository_of
from agenttask_steps.git_process import Git, git_for

_FILTERS = r"^filter\..*\.(clean|smudge|process|required)$"


class Repository(Struct, frozen=True, kw_only=True):
    """Where git runs; `folder` is the path that the task names, in the repository or its root."""

    git: Git
    folder: Path

    async def commit_of(self, name: str) -> str:
        """The hash of what a task names as a commit; from here on nothing can be taken for an option.

        Raises:
            StepFailed: it names none.
        """
        if name.startswith("-"):
            raise StepFailed(f"{name!r} is no name of a commit")
        code, printed = await self.git.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", folder=self.folder, also=(1, 128)
        )
        if code:
            raise StepFailed(f"{name!r} names no commit of the repository; a clone of `depth: 1` has only its last one")
        return printed.decode().split()[-1]


@contextlib.asynccontextmanager
async def repository(path: str, context: StepContext) -> AsyncIterator[Repository]:
    """The repository that `path` is in.

    Raises:
        StepFailed: it is in none.
    """
    folder = context.files.readable(path)
    root = repository_of(folder, context.workspace)
    if root is None or not folder.is_dir():
        raise StepFailed(f"{path!r} is no git repository below the workspace")
    async with held(context.locks, {root: path}, context.log), git_for(context) as git:
        await _without_filters(git, folder, context)
        yield Repository(git=git, folder=folder)


async def _without_filters(git: Git, folder: Path, context: StepContext) -> None:
    """Turn off programs that the repository's own settings run on each file; nobody who wrote those has a say here."""
    _, printed = await git.run("config", "--local", "--name-only", "--null", "--get-regexp", _FILTERS, folder=folder, also=(1,))
    keys = [key for key in printed.decode("utf-8", "surrogateescape").split("\0") if key]
    if keys:
        names = sorted({key.split(".", 1)[1].rpartition(".")[0] for key in keys})
        context.log(f"filters of the repository are not run: {', '.join(names)}")
        git.override({key: "false" if key.endswith(".required") else "" for key in keys})
