"""A step context over a folder: real files without the runner's rules beyond "below this folder", work on one thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.document import Policy, TaskRef
from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.plugin.llm import LLMClient
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import ThreadingState, WorkKind
from agenttask.runner.locks import PathLocks


class FolderFiles:
    """`Files` below one folder; the rules that the runner's own has in full are kept as far as steps see them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def readable(self, path: str) -> Path:
        found = (self._folder / path).resolve()
        if not found.is_relative_to(self._folder):
            raise StepFailed(f"{path!r} is outside of what this task has")
        return found

    writable = readable

    async def glob(self, pattern: str) -> Sequence[Path]:
        if not any(letter in pattern for letter in "*?["):
            return [self.readable(pattern)]
        found = sorted(path for path in self._folder.glob(pattern) if path.is_file())
        if not found:
            raise StepFailed(f"{pattern!r} matches no file")
        return found

    async def read_text(self, path: Path) -> str:
        try:
            raw = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise StepFailed(f"{path.name!r} cannot be read: {error.strerror}") from error
        if len(raw) > MAX_STEP_TEXT_BYTES:
            raise OutputTooLarge(f"{path.name!r} is too large")
        return raw.decode()

    async def write_text(self, path: str, content: str) -> Path:
        target = self.writable(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return target

    async def write_stream(self, path: str, chunks: AsyncIterator[bytes]) -> Path:
        target = self.writable(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = b"".join([chunk async for chunk in chunks])
        target.write_bytes(whole)
        return target


class OneThread:
    """Runs what it is given on a thread, and remembers the kinds."""

    def __init__(self) -> None:
        self.kinds: list[WorkKind] = []
        self.state = ThreadingState()

    async def run(self, kind: WorkKind, function: Callable[..., Any], *args: object) -> Any:
        self.kinds.append(kind)
        return await asyncio.to_thread(function, *args)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - the protocol's
        """Nothing is kept."""


def step_context(
    workspace: Path,
    *,
    models: Mapping[str, LLMClient] | None = None,
    outputs: Mapping[str, StepOutput] | None = None,
    environment: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    log: Callable[[str], None] | None = None,
    policy: Policy | None = None,
    session: aiohttp.ClientSession | None = None,
    locks: PathLocks | None = None,
) -> StepContext:
    """A context as the runner lends it; `models` maps AgentModel names to clients."""

    def lent() -> aiohttp.ClientSession:
        assert session is not None, "this step opens a session"
        return session

    return StepContext(
        name="step",
        task=TaskRef(name="task", namespace="default", uid="u-1"),
        outputs=outputs or {},
        files=FolderFiles(workspace),
        workspace=workspace.resolve(),
        threads=OneThread(),
        model=lambda name: (models or {})[name],
        environment={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **(environment or {})},
        secrets=secrets or {},
        log=log or (lambda line: None),
        locks=locks or PathLocks(),
        policy=policy or Policy(),
        session=lent,
    )
