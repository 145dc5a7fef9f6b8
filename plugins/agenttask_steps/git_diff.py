"""`git.diff`: what has changed, between two commits or from one to the working tree; `text` is the patch, `json` the files.

The working tree is what lies there, new files included (ignored ones are not): they are staged in an index of the step's
own, with objects of its own, so the repository stays as it is.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.git_repository import Repository, repository
from agenttask_steps.rendered import RenderedDiff

_OPTIONS = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
_CHANGES = {"A": "Added", "M": "Modified", "D": "Deleted", "T": "TypeChanged", "U": "Unmerged"}


async def diff(config: RenderedDiff, context: StepContext) -> StepOutput:
    """The patch and the files in it."""
    async with repository(config.path, context) as found:
        base = await found.commit_of(config.base)
        if config.head:
            return await _between(found, (base, await found.commit_of(config.head)), config, {}, context)
        staged = await _staged(found, context)
        await found.git.run("add", "--all", "--", ":/", folder=found.folder, environment=staged)
        return await _between(found, ("--cached", base), config, staged, context)


async def _between(
    found: Repository, what: tuple[str, ...], config: RenderedDiff, environment: Mapping[str, str], context: StepContext
) -> StepOutput:
    async def printed(*options: str) -> bytes:
        arguments = ("diff", *_OPTIONS, *options, *what, "--", *config.paths)
        return (await found.git.run(*arguments, folder=found.folder, environment=environment))[1]

    files = [{"path": path, "change": change} for path, change in _named(await printed("--name-status", "-z"))]
    raw = await printed("--patch")
    text = raw.decode("utf-8", "replace")
    if "\ufffd" in text and text.encode() != raw:
        context.log("the patch is not all UTF-8; the bytes that are not were replaced by U+FFFD")
    return StepOutput(text=text, json=files)


async def _staged(found: Repository, context: StepContext) -> dict[str, str]:
    """An index like the repository's, and a place for objects, that are the step's own."""
    scratch = found.git.home
    _, printed = await found.git.run("rev-parse", "--git-path", "index", "--git-path", "objects", folder=found.folder)
    index, objects = (found.folder / line for line in printed.decode("utf-8", "surrogateescape").splitlines())
    await context.threads.run(WorkKind.BLOCKING_IO, _copy, str(index), str(scratch / "index"))
    (scratch / "objects").mkdir()
    return {
        "GIT_INDEX_FILE": str(scratch / "index"),
        "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects.resolve()),
    }


def _copy(source: str, target: str) -> None:
    if Path(source).exists():
        shutil.copy2(source, target)  # with its time, by which git knows whose entries it cannot trust


def _named(raw: bytes) -> Iterator[tuple[str, str]]:
    """(path, change) of what `--name-status -z` prints."""
    words = raw.decode("utf-8", "replace").split("\0")
    for status, path in zip(words[::2], words[1::2], strict=False):
        yield path, _CHANGES.get(status[:1], "Modified")
