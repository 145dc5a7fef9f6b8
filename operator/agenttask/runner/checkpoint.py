"""One run's checkpoint: what an earlier attempt has left is taken over, and what ends here is left to the next.

`TaskRun` asks it at the start of each step and item, and tells it of each end. Without a store it takes over nothing and keeps nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from agenttask.api import checkpoint as format_
from agenttask.api.checkpoint import CHECKPOINT_VERSION, Checkpoint, CheckpointRefused, KeptFile
from agenttask.api.document import TaskDocument
from agenttask.domain.graph import StepGraph
from agenttask.domain.resume import ResumePlan, plan_resume
from agenttask.plugin.step import StepOutput
from agenttask.runner import kept_files
from agenttask.runner.checkpoint_shelf import Head, Shelf
from agenttask.runner.checkpoint_store import CheckpointStore, CheckpointUnavailable
from agenttask.runner.checkpoint_writer import CheckpointWriter, Pace
from agenttask.runner.keeping import TakenOver
from agenttask.runner.kept_output import unkept
from agenttask.runner.places import Places

_NOTHING = ResumePlan(taken={}, again=frozenset(), items={}, restore=False)


class Checkpointing:
    """The `Keeper` of one run (runner/keeping.py); made by `open_checkpoint`."""

    def __init__(
        self, document: TaskDocument, places: Places, plan: ResumePlan, *, earlier: Checkpoint | None, writer: CheckpointWriter | None
    ) -> None:
        self._steps = document.spec.steps
        self._places = places
        self._plan = plan
        self._attempt = 0 if earlier is None else earlier.attempt
        self._writer = writer
        if writer is not None and earlier is not None:
            steps = list(plan.taken.values())
            items = [item for step in plan.items.values() for item in step.values()]
            writer.seed(lambda shelf: shelf.seed(steps, items))

    async def take_over(self, index: int) -> TakenOver | None:
        """The step's end in an earlier attempt, its kept files put back; None: it has to run.

        Raises:
            StepFailed: a kept file cannot be put back.
        """
        step = self._plan.taken.get(index)
        if step is None:
            return None
        await self._restore(step.files)
        output = StepOutput() if step.output is None else unkept(step.output)
        return TakenOver(output=output, skipped=step.skipped, attempt=self._attempt)

    async def take_over_item(self, index: int, place: int, item: Any) -> StepOutput | None:
        """The output of an item of an unfinished step; None: it has to run, or the list has another item there now.

        Raises:
            StepFailed: a kept file cannot be put back.
        """
        kept = self._plan.items.get(index, {}).get(place)
        if kept is None or kept.value != _digest(item):
            return None
        await self._restore(kept.files)
        return unkept(kept.output)

    async def keep_files(self, patterns: Sequence[str]) -> tuple[KeptFile, ...] | None:
        """What a step's rendered `keepFiles` find; None without patterns.

        Raises:
            StepFailed: a pattern is outside of the workspace, or a file cannot be read.
            OutputTooLarge: more than a checkpoint takes of one step.
        """
        return await asyncio.to_thread(kept_files.collect, self._places, tuple(patterns)) if patterns else None

    def step_ended(self, index: int, output: StepOutput, files: tuple[KeptFile, ...] | None = None) -> None:
        """A step has ended with an output, an error that it goes on with included."""
        name = self._steps[index].name
        self._add(lambda shelf: shelf.step_ended(name, output, files))

    def step_skipped(self, index: int, why: str) -> None:
        """A step's `when` was false."""
        name = self._steps[index].name
        self._add(lambda shelf: shelf.step_skipped(name, why))

    def item_ended(self, index: int, place: int, item: Any, output: StepOutput, files: tuple[KeptFile, ...] | None = None) -> None:
        """An item of a step has ended with an output."""
        name, value = self._steps[index].name, _digest(item)
        if value is not None:
            self._add(lambda shelf: shelf.item_ended(name, place, value, output, files))

    def hurry(self) -> None:
        """The run is about to end: save without a pause."""
        if self._writer is not None:
            self._writer.hurry()

    async def succeeded(self) -> None:
        """The task has succeeded: no attempt goes on from here."""
        if self._writer is not None:
            await self._writer.succeeded()

    async def shrink(self, limit: int) -> None:
        """Save it within so many bytes: what else is kept needs the room."""
        if self._writer is not None:
            await self._writer.shrink(limit)

    async def aclose(self) -> None:
        """Save the last."""
        if self._writer is not None:
            await self._writer.aclose()

    def _add(self, change: Callable[[Shelf], None]) -> None:
        if self._writer is not None:
            self._writer.add(change)

    async def _restore(self, files: tuple[KeptFile, ...] | None) -> None:
        if files and self._plan.restore:
            await asyncio.to_thread(kept_files.restore, self._places, files)


async def open_checkpoint(
    document: TaskDocument,
    graph: StepGraph,
    places: Places,
    store: CheckpointStore | None,
    *,
    runner: str,
    workspace_kept: bool,
    log: Callable[[str, str], None],
    pace: Pace = Pace(),  # noqa: B008  # frozen
    elapsed: float = 0.0,
) -> Checkpointing:
    """The run's checkpoint; one that is refused or cannot be read is told in the log, and the task starts from the beginning.

    `elapsed` are the seconds since the run's start.
    """
    if store is None:
        return Checkpointing(document, places, _NOTHING, earlier=None, writer=None)
    spec = format_.spec_digest(document.spec)
    head = Head(version=CHECKPOINT_VERSION, task=document.task.uid, spec=spec, runner=runner, attempt=document.attempt)
    writer = CheckpointWriter(Shelf(head, document.spec.steps, log=log), store, log=log, pace=pace, elapsed=elapsed)
    try:
        earlier = await _load(store, task=document.task.uid, spec=spec)
    except (CheckpointRefused, CheckpointUnavailable) as error:
        log("checkpoint", f"not taken over, the task starts from the beginning: {error}")
        earlier = None
    if earlier is None:
        return Checkpointing(document, places, _NOTHING, earlier=None, writer=writer)
    plan = plan_resume(
        graph,
        document.spec.steps,
        earlier.steps,
        earlier.items,
        workspace_kept=workspace_kept,
        whole_output=document.spec.output is not None,
    )
    log("checkpoint", _told(earlier, plan))
    return Checkpointing(document, places, plan, earlier=earlier, writer=writer)


async def _load(store: CheckpointStore, *, task: str, spec: str) -> Checkpoint | None:
    raw = await store.load()
    if raw is None:
        return None
    found = await asyncio.to_thread(format_.decode, raw)
    format_.belongs(found, task=task, spec=spec)
    for output in (*(step.output for step in found.steps), *(item.output for item in found.items)):
        if output is not None:
            unkept(output)  # now, so that a step never meets a collection that is none
    return found


def _told(earlier: Checkpoint, plan: ResumePlan) -> str:
    items = sum(map(len, plan.items.values()))
    more = f", items of unfinished ones: {items}" if items else ""
    again = f", to run again for their files or outputs: {len(plan.again)}" if plan.again else ""
    return f"of attempt {earlier.attempt} (runner {earlier.runner}); steps taken over: {len(plan.taken)}{more}{again}"


def _digest(item: Any) -> str | None:
    """None for what cannot be told as JSON: such an item runs again."""
    try:
        return format_.digest(item)
    except (TypeError, ValueError, RecursionError):
        return None
