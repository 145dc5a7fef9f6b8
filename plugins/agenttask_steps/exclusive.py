"""What a command has to itself while it runs: its git repository, its wait file, and what the step names."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from agenttask.plugin.step import Locks

LONG_SECONDS = 1.0
"""A longer wait is said in the log."""


def repository_of(folder: Path, workspace: Path) -> Path | None:
    """The nearest folder from `folder` up to the workspace that has a `.git`; a worktree's and a submodule's is a file."""
    for each in (folder, *folder.parents):
        if not each.is_relative_to(workspace):
            return None
        if (each / ".git").exists():
            return each
    return None


@asynccontextmanager
async def held(locks: Locks, paths: Mapping[Path, str], log: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold all of the paths, which the log calls by the names given; a wait of more than a second is told there."""
    loop = asyncio.get_running_loop()
    names = ", ".join(repr(name) for name in paths.values())
    since = loop.time()
    telling = loop.call_later(LONG_SECONDS, log, f"waits for {names}, which another step has")
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(locks.hold(*paths))
        finally:
            telling.cancel()
        if (waited := loop.time() - since) > LONG_SECONDS:
            log(f"waited {waited:.1f} s for {names}")
        yield
