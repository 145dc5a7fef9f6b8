"""`agenttask run --watch`: runs again when a file changes, and takes over the finished steps that nothing has changed for.

The workspace stays from one run to the next, so a step that wrote files need not write them again. A change while tasks run
stops them first; what they had finished counts.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from watchfiles import Change, awatch

from agenttask.api import checkpoint as format_
from agenttask.api.document import TaskDocument
from agenttask.cli.manifests import InvalidFile
from agenttask.cli.preparing import LocalRun
from agenttask.cli.reuse import unchanged_steps
from agenttask.cli.running import STOPPED, Together
from agenttask.runner.checkpoint_store import MemoryStore
from agenttask.runner.station import Outcome

_CHANGED = "a file has changed"
_PACE_MS = 200
"""Changes that come so close together are one."""
Prepare = Callable[[ExitStack], Sequence[LocalRun]]
Show = Callable[[Sequence[LocalRun], Sequence[Outcome]], None]


class Before(Struct, frozen=True, kw_only=True):
    """One task's last run: what it was, what its inputs and secrets were, and its checkpoint."""

    document: TaskDocument
    inputs: str
    secrets: Mapping[tuple[str, str], str]
    store: MemoryStore


async def watch(
    prepare: Prepare, show: Show, changes: AsyncIterator[Any], *, stopping: asyncio.Event, max_tasks: int, say: Callable[[str], None]
) -> tuple[Outcome, ...]:
    """Run until `stopping` is set; the outcomes of the last run.

    Args:
        prepare: reads the files anew; raises InvalidFile.
        show: prints the results of a run that was not stopped.
        changes: gives something for each change of a file.
        stopping: set when a person wants to end.
        max_tasks: so many tasks at once.
        say: a line for the person.
    """
    before: dict[str, Before] = {}
    outcomes: tuple[Outcome, ...] = ()
    stopped = asyncio.create_task(stopping.wait())
    changed = asyncio.ensure_future(anext(changes))
    try:
        while True:
            with ExitStack() as stack:
                try:
                    prepared = prepare(stack)
                    inputs = {run.name: fingerprint(run) for run in prepared}  # as they are now: they may change while steps read them
                    runs = [taking_over(run, before, inputs[run.name]) for run in prepared]
                except InvalidFile as error:
                    for problem in error.problems:
                        say(problem)
                else:
                    together = Together(max_tasks)
                    work = asyncio.create_task(together.execute(runs))
                    await asyncio.wait({work, changed, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    interrupted = not work.done()
                    if interrupted:
                        together.stop(STOPPED if stopped.done() else _CHANGED)
                    outcomes = await work
                    before = {run.name: _remembered(run, inputs[run.name]) for run in runs}
                    if not interrupted:
                        show(runs, outcomes)
            if not (stopped.done() or changed.done()):
                say("waiting for a change (Ctrl-C ends)")
                await asyncio.wait({changed, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return outcomes
            changed.result()
            changed = asyncio.ensure_future(anext(changes))
    finally:
        for task in (changed, stopped):
            task.cancel()
        await asyncio.gather(changed, stopped, return_exceptions=True)
        if isinstance(changes, AsyncGenerator):
            await changes.aclose()


async def file_changes(files: Sequence[Path], folders: Sequence[Path], stopping: asyncio.Event) -> AsyncIterator[Any]:
    """Something for each change of one of these files, or below one of these folders.

    Files are watched through their folders: an editor that saves replaces the file, and a watch on the old one would see no more.
    """
    wanted = {file.resolve() for file in files}
    found: asyncio.Queue[Any] = asyncio.Queue()

    async def put(changes: AsyncIterator[Any]) -> None:
        async for change in changes:
            found.put_nowait(change)

    def ours(_change: Change, path: str) -> bool:
        return Path(path).resolve() in wanted

    def watched(*paths: Path, **options: Any) -> AsyncIterator[Any]:
        return awatch(*paths, debounce=_PACE_MS, step=_PACE_MS, stop_event=stopping, **options)

    watches = [put(watched(*{file.parent for file in wanted}, watch_filter=ours, recursive=False))]
    watches += [put(watched(*folders))] if folders else []
    tasks = [asyncio.create_task(each) for each in watches]
    try:
        while not stopping.is_set():
            yield await found.get()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def taking_over(run: LocalRun, before: Mapping[str, Before], inputs: str) -> LocalRun:
    """The run with a checkpoint of the steps that are as they were."""
    last, store = before.get(run.name), MemoryStore()
    if last is not None and last.store.content is not None:
        found = format_.decode(last.store.content)
        secrets = secrets_of(run)
        same = unchanged_steps(
            last.document,
            run.local.document,
            inputs_changed=inputs != last.inputs,
            secrets_changed={step for step, name in secrets if last.secrets.get((step, name)) != secrets[step, name]},
        )
        kept = msgspec.structs.replace(
            found,
            spec=format_.spec_digest(run.local.document.spec),
            steps=tuple(step for step in found.steps if step.name in same),
            items=tuple(item for item in found.items if item.step in same),
        )
        store.content = format_.encode(kept)
    settings = msgspec.structs.replace(run.settings, workspace_kept=True)
    station = msgspec.structs.replace(run.station, checkpoint=store, settings=settings)
    return msgspec.structs.replace(run, station=station, settings=settings)


def _remembered(run: LocalRun, inputs: str) -> Before:
    assert isinstance(run.station.checkpoint, MemoryStore)
    return Before(document=run.local.document, inputs=inputs, secrets=secrets_of(run), store=run.station.checkpoint)


def secrets_of(run: LocalRun) -> dict[tuple[str, str], str]:
    """The values of the task's secrets, by step and name."""
    return {(secret.step, secret.name): run.local.credentials[secret.env] for secret in run.local.document.secrets}


def fingerprint(run: LocalRun) -> str:
    """Tells whether inputs have changed: ConfigMaps by their content, folders by names, sizes and times of their files."""
    found = hashlib.sha256()
    for name, folder in sorted(run.local.inputs.items()):
        ours = folder.is_relative_to(run.station.scratch)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            found.update(f"{name}\0{path.relative_to(folder)}\0".encode("utf-8", "surrogateescape"))
            found.update(path.read_bytes() if ours else _times(path))
    return found.hexdigest()


def _times(path: Path) -> bytes:
    seen = path.stat()
    return f"{seen.st_size} {seen.st_mtime_ns}\0".encode()
