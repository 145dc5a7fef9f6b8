"""Where an attempt goes on: what is taken over, what runs again, and that the outputs are those of one run."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api import task
from agenttask.api.checkpoint import KeptFile, KeptItem, KeptOutput, KeptStep
from agenttask.api.steps import Step
from agenttask.domain.graph import StepGraph
from agenttask.domain.resume import ResumePlan, changes_files, outlives_pod, plan_resume

READ = {"read": {"paths": ["x"]}}
WRITE = {"write": {"path": "x", "content": "y"}}
EXEC = {"exec": {"command": ["x"]}}
CHAT = {"chat": {"model": "m", "prompt": "p"}}


def step(name: str, kind: dict[str, Any], **fields: Any) -> Step:
    return msgspec.convert({"name": name, **kind, **fields}, Step)


def done(name: str, *, files: bool = False, dropped: bool = False) -> KeptStep:
    found = (KeptFile(path=name, content=b""),) if files else None
    return KeptStep(name=name, dropped="large", files=found) if dropped else KeptStep(name=name, output=KeptOutput(text=name), files=found)


def plan(
    steps: Sequence[Step],
    *kept: KeptStep,
    items: Sequence[KeptItem] = (),
    workspace_kept: bool = False,
    whole_output: bool = False,
) -> ResumePlan:
    return plan_resume(StepGraph(steps), steps, kept, items, workspace_kept=workspace_kept, whole_output=whole_output)


def taken(found: ResumePlan) -> tuple[set[int], set[int]]:
    return set(found.taken), set(found.again)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param(READ, False, id="read"),
        pytest.param(WRITE, True, id="write"),
        pytest.param(EXEC, True, id="exec"),
        pytest.param(CHAT, False, id="chat"),
        pytest.param({"fetch": {"url": "https://x"}}, False, id="fetch"),
        pytest.param({"fetch": {"url": "https://x", "path": "f"}}, True, id="fetch-to-a-file"),
        pytest.param({"git": {"clone": {"url": "https://x", "path": "f"}}}, True, id="clone"),
        pytest.param({"git": {"commit": {"path": "f", "message": "m"}}}, True, id="commit"),
        pytest.param({"git": {"diff": {"path": "f"}}}, False, id="diff"),
        pytest.param({"plugin": {"kind": "k"}}, True, id="plugin"),
    ],
)
def test_which_kinds_change_files(kind: dict[str, Any], expected: bool) -> None:
    assert changes_files(step("s", kind)) is expected


CHAIN = (step("w", WRITE), step("c", CHAT), step("r", READ))


def test_a_finished_step_that_changes_files_runs_again_when_an_unfinished_one_needs_it_through_others() -> None:
    assert taken(plan(CHAIN, done("w"), done("c"))) == ({1}, {0})


def test_on_a_workspace_that_persists_nothing_runs_again_and_nothing_is_restored() -> None:
    found = plan(CHAIN, done("w"), done("c"), workspace_kept=True)
    assert (taken(found), found.restore) == (({0, 1}, set()), False)


def test_kept_files_save_the_step() -> None:
    found = plan(CHAIN, done("w", files=True), done("c"))
    assert (taken(found), found.restore) == (({0, 1}, set()), True)


def test_a_step_that_no_unfinished_one_needs_does_not_run_again() -> None:
    steps = (step("w", WRITE), step("c", CHAT, needs=[]))
    assert taken(plan(steps, done("w"))) == ({0}, set())


def test_a_whole_run_is_taken_over_whole() -> None:
    assert taken(plan(CHAIN, done("w"), done("c"), done("r"))) == ({0, 1, 2}, set())


def test_a_skipped_step_stays_skipped() -> None:
    steps = (step("w", WRITE, when="{{ false }}"), step("c", CHAT))
    assert taken(plan(steps, KeptStep(name="w", skipped="when"))) == ({0}, set())


def test_an_output_that_is_gone_is_made_again_where_it_is_needed() -> None:
    steps = (step("r", READ), step("c", CHAT), step("d", CHAT))
    assert taken(plan(steps, done("r", dropped=True), done("c"))) == ({1}, {0})
    assert taken(plan(steps, done("r", dropped=True), done("c"), done("d"))) == ({0, 1, 2}, set())
    assert taken(plan(steps, done("r", dropped=True), done("c"), done("d"), whole_output=True)) == ({1, 2}, {0})


def test_the_last_steps_output_is_the_tasks_and_brings_the_files_that_it_needs() -> None:
    assert taken(plan(CHAIN, done("w"), done("c"), done("r", dropped=True))) == ({1}, {0, 2})


def test_a_step_that_the_spec_does_not_have_is_passed_over() -> None:
    assert taken(plan(CHAIN, done("other"))) == (set(), set())


def item(index: int, *, files: bool = False) -> KeptItem:
    found = (KeptFile(path=str(index), content=b""),) if files else None
    return KeptItem(step="f", index=index, value="0" * 64, output=KeptOutput(), files=found)


@pytest.mark.parametrize(
    ("kind", "fields", "items", "expected"),
    [
        pytest.param(CHAT, {}, [item(0), item(1)], {0, 1}, id="in-order"),
        pytest.param(CHAT, {}, [item(0), item(2)], {0}, id="in-order-up-to-a-gap"),
        pytest.param(CHAT, {"parallelism": 2}, [item(2), item(0)], {0, 2}, id="at-once"),
        pytest.param(EXEC, {}, [item(0)], set(), id="files-gone"),
        pytest.param(EXEC, {}, [item(0, files=True), item(1), item(2, files=True)], {0}, id="files-kept-up-to-a-gap"),
        pytest.param(CHAT, {"forEach": ""}, [item(0)], set(), id="no-items"),
    ],
)
def test_items_are_taken_over_one_by_one(kind: dict[str, Any], fields: dict[str, Any], items: list[KeptItem], expected: set[int]) -> None:
    steps = (step("f", kind, **{"forEach": "{{ params.list }}", **fields}),)
    assert set(plan(steps, items=items).items.get(0, {})) == expected


def test_items_of_a_finished_or_unknown_step_are_passed_over() -> None:
    steps = (step("f", CHAT, forEach="{{ params.list }}"), step("g", CHAT, forEach="{{ params.list }}"))
    assert plan(steps, done("f"), items=[item(0), msgspec.structs.replace(item(0), step="z")]).items == {}


# One run and any prefix of it with a resume, on a small model of what steps do.

Outputs = dict[int, str]
Workspace = dict[str, str]


def mixed(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


class World:
    """Steps over a workspace: a step's output hangs on its needs' outputs and on the files that its needs may have written."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.graph = StepGraph(steps)
        count = len(steps)
        chain = all(len(self.graph.ancestors(index)) == index for index in range(count))
        self.file = {index: "shared" if chain else f"f{index}" for index in range(count)}

    def run(self, index: int, outputs: Mapping[int, str], workspace: Workspace) -> str:
        needs = sorted(self.graph.ancestors(index))
        seen = [(other, workspace.get(self.file[other])) for other in needs if changes_files(self.steps[other])]
        output = mixed(index, [outputs[other] for other in needs], [] if self.steps[index].chat or self.steps[index].write else seen)
        if changes_files(self.steps[index]):
            workspace[self.file[index]] = mixed(output, workspace.get(self.file[index]) if self.steps[index].exec else None)
        return output


def order(graph: StepGraph) -> list[int]:
    ended: list[int] = []
    while len(ended) < len(graph.names):
        ended += graph.ready(ended, ended)
    return ended


@st.composite
def tasks(draw: st.DrawFn) -> list[Step]:
    steps = []
    for index in range(draw(st.integers(1, 7))):
        kind: dict[str, Any] = draw(st.sampled_from([READ, WRITE, EXEC, CHAT]))
        needs = (
            None if draw(st.booleans()) else draw(st.lists(st.integers(0, index - 1), unique=True, max_size=3) if index else st.just([]))
        )
        keep = draw(st.booleans())
        fields: dict[str, Any] = {} if needs is None else {"needs": [f"s{other}" for other in needs]}
        steps.append(step(f"s{index}", kind, **fields, **({"keepFiles": ["**"]} if keep else {})))
    return steps


@settings(max_examples=300, deadline=None)
@given(tasks(), st.integers(0, 7), st.sets(st.integers(0, 6)), st.booleans(), st.booleans())
def test_any_prefix_of_a_run_and_a_resume_give_the_outputs_of_one_run(
    steps: list[Step], ended: int, dropped: set[int], workspace_kept: bool, whole_output: bool
) -> None:
    world = World(steps)
    one: Outputs = {}
    whole: Workspace = {}
    first: Workspace = {}
    kept: list[KeptStep] = []
    for position, index in enumerate(order(world.graph)):
        one[index] = world.run(index, one, whole)
        if position < ended:
            name = world.file[index]
            files = (KeptFile(path=name, content=whole[name].encode()),) if steps[index].keep_files and name in whole else None
            files = files if changes_files(steps[index]) else None
            if index in dropped and not (workspace_kept and not steps[index].chat):  # a file may have changed since it was read
                kept.append(KeptStep(name=steps[index].name, dropped="large"))
            else:
                kept.append(KeptStep(name=steps[index].name, output=KeptOutput(text=one[index]), files=files))
            first = dict(whole)

    found = plan_resume(world.graph, steps, kept, (), workspace_kept=workspace_kept, whole_output=whole_output)
    workspace: Workspace = first if workspace_kept else {}
    outputs: Outputs = {}
    for index in order(world.graph):
        if index in found.taken:
            step_ = found.taken[index]
            outputs[index] = "gone" if step_.output is None else step_.output.text
            for file in (step_.files or ()) if found.restore else ():
                workspace[file.path] = file.content.decode()
        else:
            outputs[index] = world.run(index, outputs, workspace)

    shown = range(len(steps)) if whole_output else [len(steps) - 1]
    ran = [index for index in range(len(steps)) if index not in found.taken]
    assert {index: outputs[index] for index in {*shown, *ran}} == {index: one[index] for index in {*shown, *ran}}
    assert workspace_kept is False or found.again <= dropped


def test_only_a_claim_outlives_the_pod() -> None:
    claim = msgspec.convert({"persistentVolumeClaim": {"claimName": "work"}}, task.Workspace)
    assert (outlives_pod(claim), outlives_pod(task.Workspace())) == (True, False)
