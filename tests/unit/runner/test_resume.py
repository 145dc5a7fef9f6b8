"""One task in several attempts, in this process: wherever the first one breaks off, the last one gives what one run gives."""

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes.checkpoint_memory import WatchedStore
from tests.fakes.runner_plugins import FunctionKind, plugins

from agenttask.api.checkpoint import (
    CHECKPOINT_VERSION,
    Checkpoint,
    KeptCollection,
    KeptOutput,
    KeptPassage,
    KeptStep,
    decode,
    encode,
    spec_digest,
)
from agenttask.api.document import TaskDocument
from agenttask.api.errors import Interrupted, OutputTooLarge, SoftDeadlineReached, StepFailed
from agenttask.domain.graph import StepGraph
from agenttask.plugin.step import StepContext, StepKind, StepOutput
from agenttask.runner.checkpoint import open_checkpoint
from agenttask.runner.observer import NullObserver
from agenttask.runner.places import places
from agenttask.runner.run import Outcome, Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import LastReport

STEPS: list[dict[str, Any]] = [
    {"name": "write", "write": {"path": "a", "content": "{{ params.p }}"}},
    {"name": "read", "read": {"paths": ["a"]}},
    {"name": "change", "exec": {"command": ["change", "{{ steps.read.text }}"]}, "keepFiles": ["a", "none-*"]},
    {"name": "skipped", "when": "{{ steps.read.text == '' }}", "chat": {"model": "m", "prompt": "never"}},
    {"name": "ask", "forEach": "{{ [1, 2, 3] }}", "chat": {"model": "m", "prompt": "{{ item }} {{ previous.text | default('') }}"}},
    {"name": "beside", "needs": [], "chat": {"model": "m", "prompt": "beside"}},
    {"name": "again", "needs": ["ask"], "forEach": "{{ [1, 2] }}", "exec": {"command": ["change", "{{ item }}"]}},
    {"name": "end", "needs": ["again", "beside"], "read": {"paths": ["a"]}},
]
OUTPUT = "{{ steps.end.text }} {{ steps.ask.results | map(attribute='text') | join(',') }} {{ steps.beside.text }} {{ steps.skipped.text }}"


def document(steps: list[dict[str, Any]] = STEPS, attempt: int = 1, uid: str = "u-1", **spec: Any) -> TaskDocument:
    body = {
        "task": {"name": "demo", "namespace": "agents", "uid": uid},
        "attempt": attempt,
        "models": [{"name": "m", "client": "answering", "model": "x"}],
        "spec": {"steps": steps, "params": {"p": "one"}, **spec},
    }
    return msgspec.convert(body, TaskDocument)


class Attempts:
    """Attempts over one store, each with its own workspace unless that is kept; after `breaks` calls the next is a stopped runner's."""

    def __init__(self, folder: Path, *, kept: bool = False) -> None:
        self.folder = folder
        self.kept = kept
        self.store = WatchedStore()
        self.calls: Counter[str] = Counter()
        self.lines: list[str] = []
        self.count = 0

    def station(self, breaks: int | None = None) -> Station:
        left = [breaks]

        async def called(what: str) -> None:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise Interrupted("the runner was stopped (SIGTERM)")
            self.calls[what] += 1
            await asyncio.sleep(0)

        async def write(config: dict[str, Any], context: StepContext) -> StepOutput:
            await called("write")
            await context.files.write_text(config["path"], config["content"])
            return StepOutput(text=config["path"])

        async def read(config: dict[str, Any], context: StepContext) -> StepOutput:
            await called("read")
            return StepOutput(text=await context.files.read_text(context.files.readable(config["paths"][0])))

        async def change(config: dict[str, Any], context: StepContext) -> StepOutput:
            await called("exec")
            before = await context.files.read_text(context.files.readable("a"))
            await context.files.write_text("a", f"{before}+{config['command'][1]}")
            return StepOutput(exit_code=0)

        async def chat(config: dict[str, Any], context: StepContext) -> StepOutput:
            await called("chat " + config["prompt"])
            return StepOutput(text=f"<{config['prompt']}>", json={"prompt": config["prompt"]})

        kinds = {"write": write, "read": read, "exec": change, "chat": chat}
        if not self.kept:
            self.count += 1
        workspace = self.folder / f"workspace-{self.count}"
        for path in (workspace, self.folder / "scratch"):
            path.mkdir(exist_ok=True)
        return Station(
            plugins=plugins(kinds={name: FunctionKind(kind) for name, kind in kinds.items()}),
            settings=RunnerSettings(max_concurrent_steps=1, workspace_kept=self.kept),
            places=places(workspace, {}),
            scratch=self.folder / "scratch",
            credentials={},
            observer=NullObserver(),
            channel=LastReport(),
            checkpoint=self.store,
            version="0.1.0",
            log=lambda about, line: self.lines.append(f"{about}: {line}"),
        )

    async def run(self, found: TaskDocument, breaks: int | None = None) -> Outcome:
        async with TaskRun(found, self.station(breaks)) as run:
            return await run.execute()


async def whole(folder: Path) -> tuple[str | None, int]:
    """The output of one run, and how many calls it has."""
    (folder / "whole").mkdir()
    attempts = Attempts(folder / "whole")
    outcome = await attempts.run(document(output=OUTPUT))
    assert outcome.error is None, outcome.message
    return outcome.output, attempts.calls.total()


@pytest.mark.parametrize("first", range(12))
async def test_wherever_it_breaks_off_the_next_attempt_ends_with_the_output_of_one_run(tmp_path: Path, first: int) -> None:
    output, calls = await whole(tmp_path)
    assert (output, calls) == ("one+one+1+2 <1 >,<2 <1 >>,<3 <2 <1 >>> <beside> ", 10)
    attempts = Attempts(tmp_path)
    broken = await attempts.run(document(output=OUTPUT), breaks=first)
    assert (broken.error is None) == (first >= calls)
    second = await attempts.run(document(output=OUTPUT, attempt=2))
    assert (second.output, second.error) == (output, None), attempts.lines
    assert max(count for what, count in attempts.calls.items() if what.startswith("chat")) == 1, "a model was asked twice"


async def test_many_attempts_of_one_call_each_come_to_the_same_end_on_a_workspace_that_persists(tmp_path: Path) -> None:
    output, calls = await whole(tmp_path)
    attempts = Attempts(tmp_path, kept=True)
    for attempt in range(1, calls + 2):
        outcome = await attempts.run(document(output=OUTPUT, attempt=attempt), breaks=1)
        if outcome.error is None:
            break
    assert (outcome.output, attempts.calls.total()) == (output, calls), "something ran twice"


async def test_what_is_taken_over_shows_in_log_and_report(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, kept=True)
    await attempts.run(document(), breaks=5)
    attempts.lines.clear()
    outcome = await attempts.run(document(attempt=2))
    assert attempts.lines[0] == "checkpoint: of attempt 1 (runner 0.1.0); steps taken over: 5, items of unfinished ones: 1"
    assert [(step.code, step.duration_ms) for step in outcome.report.steps][:4] == [("S", 0), ("S", 0), ("S", 0), ("K", 0)]


async def test_a_finished_task_runs_nothing_again(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    first = await attempts.run(document(output=OUTPUT))
    calls = attempts.calls.total()
    second = await attempts.run(document(output=OUTPUT, attempt=2))
    assert (second.output, attempts.calls.total()) == (first.output, calls)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param({"params": {"p": "two"}}, "the checkpoint is of another spec", id="spec"),
        pytest.param({"uid": "u-2"}, "the checkpoint is of task 'u-1', this one is 'u-2'", id="task"),
    ],
)
async def test_a_checkpoint_of_something_else_is_not_taken_over(tmp_path: Path, found: dict[str, Any], said: str) -> None:
    attempts = Attempts(tmp_path)
    await attempts.run(document())
    await attempts.run(document(**found))
    assert any(line.startswith(f"checkpoint: not taken over, the task starts from the beginning: {said}") for line in attempts.lines)
    assert attempts.calls["write"] == 2
    assert attempts.store.content is not None
    assert decode(attempts.store.content).task == found.get("uid", "u-1")


async def test_a_checkpoint_after_a_rollback_is_told_and_the_task_starts_anew(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.store.content = b'{"version": 2, "runner": "0.9.0"}'
    assert (await attempts.run(document(STEPS[:2]))).output == "one"
    assert "written by runner '0.9.0'" in attempts.lines[0]


async def test_a_store_that_cannot_be_read_costs_no_task(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.store.broken = "no route to host"
    assert (await attempts.run(document(STEPS[:2]))).output == "one"
    assert attempts.lines == [
        "checkpoint: not taken over, the task starts from the beginning: no route to host",
        "checkpoint: not saved: no route to host",
    ]


async def test_a_collection_that_is_none_is_found_before_any_step_starts(tmp_path: Path) -> None:
    hostile = KeptCollection(model="m", dimensions=2, passages=(KeptPassage(text="t", source="s"),), vectors=b"")
    attempts = Attempts(tmp_path)
    found = document(STEPS[:2])
    attempts.store.content = encode(
        Checkpoint(
            version=CHECKPOINT_VERSION,
            task="u-1",
            spec=spec_digest(found.spec),
            runner="0",
            steps=(KeptStep(name="read", output=KeptOutput(collection=hostile)),),
        )
    )
    assert (await attempts.run(found)).output == "one"
    assert "one vector a passage" in attempts.lines[0]


async def test_an_item_that_is_another_one_now_runs_again(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    steps = [{"name": "ask", "forEach": "{{ [1, 2] }}", "chat": {"model": "m", "prompt": "{{ item }}"}}]
    await attempts.run(document(steps), breaks=1)
    assert attempts.store.content is not None
    kept = decode(attempts.store.content)
    attempts.store.content = encode(msgspec.structs.replace(kept, items=(msgspec.structs.replace(kept.items[0], value="0" * 64),)))
    await attempts.run(document(steps))
    assert attempts.calls == {"chat 1": 2, "chat 2": 1}


async def test_an_item_that_is_no_json_runs_again(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    found = document([{"name": "ask", "forEach": "{{ [1] }}", "chat": {"model": "m", "prompt": "p"}}])
    for _ in range(2):
        keeper = await open_checkpoint(
            found,
            StepGraph(found.spec.steps),
            attempts.station().places,
            attempts.store,
            runner="0.1.0",
            workspace_kept=False,
            log=lambda about, line: None,
        )
        keeper.item_ended(0, 0, object(), StepOutput())
        keeper.item_ended(0, 1, "told", StepOutput())
        assert await keeper.take_over_item(0, 0, object()) is None
        await keeper.aclose()
    assert attempts.store.content is not None
    assert [item.index for item in decode(attempts.store.content).items] == [1]


async def test_keep_files_that_are_too_large_fail_the_step_with_or_without_a_checkpoint(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    steps: list[dict[str, Any]] = [{"name": "w", "keepFiles": ["*"], "write": {"path": "a", "content": "{{ params.p }}"}}]
    for store in (attempts.store, None):
        station = msgspec.structs.replace(attempts.station(), checkpoint=store)
        (station.places.workspace.folder / "large").write_bytes(bytes(70_000))
        async with TaskRun(document(steps), station) as run:
            outcome = await run.execute()
        assert isinstance(outcome.error, OutputTooLarge)
        assert "'large' has more than 65536 bytes" in str(outcome.error)


async def test_a_kept_file_that_cannot_come_back_fails_its_step(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    steps: list[dict[str, Any]] = [{"name": "w", "keepFiles": ["a"], "write": {"path": "a", "content": "x"}}, STEPS[1]]
    await attempts.run(document(steps), breaks=1)
    station = attempts.station()
    (station.places.workspace.folder / "a").mkdir()
    (station.places.workspace.folder / "a" / "b").touch()
    async with TaskRun(document(steps), station) as run:
        outcome = await run.execute()
    assert isinstance(outcome.error, StepFailed)
    assert outcome.message is not None
    assert outcome.message.startswith("step 'w': the kept file 'a' cannot be put back")


async def test_the_soft_deadline_counts_from_the_runs_start(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    station = msgspec.structs.replace(attempts.station(), clock=iter([0.0, *[100.0] * 1000]).__next__)
    async with TaskRun(document(softDeadlineSeconds=60), station) as run:
        outcome = await run.execute()
    assert isinstance(outcome.error, SoftDeadlineReached)
    assert str(outcome.error) == "no step, item or try starts after 60 s of running (softDeadlineSeconds)"


async def test_each_attempt_has_the_whole_soft_deadline(tmp_path: Path) -> None:
    """The first one has run for longer when it is stopped: what it finished counts as done, and its time for nothing."""
    attempts, clock = Attempts(tmp_path, kept=True), itertools.count(0.0, 50.0).__next__

    async def ran(attempt: int, breaks: int | None = None) -> Outcome:
        station = msgspec.structs.replace(attempts.station(breaks), clock=clock)
        async with TaskRun(document(attempt=attempt, output=OUTPUT, softDeadlineSeconds=100), station) as run:
            return await run.execute()

    first, second = await ran(1, breaks=4), await ran(2)
    assert isinstance(first.error, Interrupted)
    assert sum(step.duration_ms for step in first.report.steps) > 100_000
    assert (second.error, attempts.calls["write"]) == (None, 1)


async def test_a_step_that_sigterm_cancels_after_the_soft_deadline_says_so(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    entered = asyncio.Event()

    async def hang(config: dict[str, Any], context: StepContext) -> StepOutput:
        entered.set()
        await asyncio.Event().wait()
        return StepOutput()

    kind: StepKind = FunctionKind(hang)
    station = msgspec.structs.replace(attempts.station(), plugins=plugins(kinds={"hang": kind}))
    async with TaskRun(
        document([{"name": "h", "plugin": {"kind": "hang"}}, {"name": "never", "plugin": {"kind": "hang"}}]), station
    ) as run:
        execution = asyncio.create_task(run.execute())
        await entered.wait()
        run.start_no_more(SoftDeadlineReached("no step starts any more"))
        run.stop_within("the runner was stopped (SIGTERM)", 0.01)
        outcome = await execution
    assert (type(outcome.error), str(outcome.error)) == (Interrupted, "the runner was stopped (SIGTERM)")
    assert [step.message for step in outcome.report.steps] == ["the runner was stopped (SIGTERM)"] * 2


async def test_stopping_gives_what_runs_its_time_and_then_cancels_it(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    entered, release = asyncio.Event(), asyncio.Event()

    async def hang(config: dict[str, Any], context: StepContext) -> StepOutput:
        entered.set()
        await release.wait()
        return StepOutput(text="ended")

    kind: StepKind = FunctionKind(hang)
    steps = [{"name": "h", "plugin": {"kind": "hang"}}, {"name": "never", "plugin": {"kind": "hang"}}]
    for seconds, codes, kept in ((600.0, "SK", ["h"]), (0.01, "FK", [])):
        entered.clear()
        release.clear()
        attempts.store.content = encode(Checkpoint(task="another", spec="0" * 64, runner="0"))
        station = msgspec.structs.replace(attempts.station(), plugins=plugins(kinds={"hang": kind}))
        async with TaskRun(document(steps), station) as run:
            assert run.threading_state.queued == 0
            execution = asyncio.create_task(run.execute())
            await entered.wait()
            run.stop_within("the runner was stopped (SIGTERM)", seconds)
            if seconds > 1:
                release.set()
            outcome = await execution
        assert (type(outcome.error), str(outcome.error)) == (Interrupted, "the runner was stopped (SIGTERM)")
        assert "".join(step.code for step in outcome.report.steps) == codes
        assert [step.name for step in decode(attempts.store.content).steps] == kept
