"""Where the next attempt goes on: which finished steps are taken over, and which must run again.

The workspace of a pod is gone with it, unless it is a volume. So a finished step that changes files runs again when an
unfinished step needs it, directly or through others, unless its `keepFiles` are in the checkpoint. What else is finished is taken over,
at its turn in the graph: kept files come back after the steps that the step needs have run again, and so lie over theirs.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from agenttask.api.checkpoint import KeptItem, KeptStep
from agenttask.api.steps import Step
from agenttask.api.task import Workspace
from agenttask.domain.graph import StepGraph


class ResumePlan(Struct, frozen=True, kw_only=True):
    """Steps by index; a step in neither starts from nothing."""

    taken: Mapping[int, KeptStep]
    """Finished: they do not run."""
    again: frozenset[int]
    """Finished, but their files or outputs are gone and needed."""
    items: Mapping[int, Mapping[int, KeptItem]]
    """Finished items of unfinished steps, by step and item."""
    restore: bool
    """Whether kept files are to be put into the workspace."""


def outlives_pod(workspace: Workspace) -> bool:
    """Whether the next attempt finds what this one leaves in its workspace: on a claim, not in an emptyDir."""
    return workspace.persistent_volume_claim is not None


def changes_files(step: Step) -> bool:
    """Whether a step may leave something in the workspace; of a plugin's kind nobody knows, so it may."""
    match step:
        case Step(fetch=fetch) if fetch is not None:
            return bool(fetch.path)
        case Step(git=git) if git is not None:
            return git.diff is None
        case _:
            return step.write is not None or step.exec is not None or step.plugin is not None


def plan_resume(
    graph: StepGraph,
    steps: Sequence[Step],
    kept: Collection[KeptStep],
    items: Collection[KeptItem],
    *,
    workspace_kept: bool,
    whole_output: bool,
) -> ResumePlan:
    """What the next attempt does with a checkpoint.

    Args:
        graph: which step waits for which.
        steps: of the spec.
        kept: the finished steps of the checkpoint.
        items: the finished items of its unfinished steps.
        workspace_kept: the workspace is a volume that the earlier attempt wrote to.
        whole_output: the task's output is a template, which may name any step; else it is the last step's text.
    """
    index_of = {name: index for index, name in enumerate(graph.names)}
    ended = {index_of[step.name]: step for step in kept if step.name in index_of}
    unfinished = frozenset(range(len(steps))) - ended.keys()
    shown = ended.keys() if whole_output else ended.keys() & {len(steps) - 1}
    again = {index for index in shown if ended[index].dropped is not None}
    for index in unfinished | again:
        again |= {
            need for need in graph.ancestors(index) - unfinished if _must_run_again(steps[need], ended[need], workspace_kept=workspace_kept)
        }
    return ResumePlan(
        taken={index: step for index, step in ended.items() if index not in again},
        again=frozenset(again),
        items=_items(steps, index_of, unfinished, items, workspace_kept=workspace_kept),
        restore=not workspace_kept,
    )


def _must_run_again(step: Step, kept: KeptStep, *, workspace_kept: bool) -> bool:
    if kept.dropped is not None:
        return True
    return kept.skipped is None and kept.files is None and changes_files(step) and not workspace_kept


def _items(
    steps: Sequence[Step], index_of: Mapping[str, int], unfinished: Collection[int], items: Collection[KeptItem], *, workspace_kept: bool
) -> dict[int, dict[int, KeptItem]]:
    """Items that stand without their step; those in an order only as far as there is no gap, as each may have seen the one before it."""
    found: dict[int, dict[int, KeptItem]] = {}
    for item in sorted(items, key=lambda each: each.index):
        index = index_of.get(item.step)
        if index not in unfinished or index is None or not steps[index].for_each:
            continue
        here = found.setdefault(index, {})
        lost = item.files is None and changes_files(steps[index]) and not workspace_kept
        gap = steps[index].parallelism == 1 and item.index != len(here)
        if not lost and not gap:
            here[item.index] = item
    return {index: here for index, here in found.items() if here}
