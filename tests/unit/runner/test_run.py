"""One run of one task, in this process, with fake step kinds: outcome, report, and what is left behind."""

import asyncio
import io
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes.runner_plugins import FunctionKind, Threads, plugins

from agenttask.api.document import TaskDocument
from agenttask.api.errors import AgentTaskError, Interrupted, InvalidTask, OutOfMemory, OutputTooLarge, StepFailed, UnknownPlugin
from agenttask.api.reasons import Reason
from agenttask.api.report import ErrorReport, Report, UsageReport
from agenttask.plugin.llm import Usage
from agenttask.plugin.registry import Plugins
from agenttask.plugin.step import StepContext, StepKind, StepOutput
from agenttask.runner.log import Log
from agenttask.runner.observer import NullObserver, Observer, Observers
from agenttask.runner.places import places
from agenttask.runner.run import Outcome, Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import LastReport, ReportChannel, TerminationFile

SMALL = {"name": "small", "client": "answering", "model": "gpt-x"}


def document(*steps: dict[str, Any], models: Any = (), secrets: Any = (), **spec: Any) -> TaskDocument:
    named = [
        {"name": f"s{index}", "plugin": {"kind": "echo", "with": step}} if "name" not in step else step for index, step in enumerate(steps)
    ]
    return msgspec.convert(
        {
            "task": {"name": "demo", "namespace": "agents", "uid": "u-1"},
            "attempt": 2,
            "spec": {"steps": named, **spec},
            "models": models,
            "secrets": secrets,
        },
        TaskDocument,
    )


def custom(name: str, kind: str, *, needs: list[str] | None = None, timeout: int | None = None, **fields: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"name": name, "plugin": {"kind": kind, "with": fields}}
    if needs is not None:
        step["needs"] = needs
    if timeout is not None:
        step["timeoutSeconds"] = timeout
    return step


@pytest.fixture
def station(tmp_path: Path) -> Callable[..., Station]:
    def make(
        found: Plugins | None = None,
        *,
        observer: Observer | None = None,
        channel: ReportChannel | None = None,
        credentials: dict[str, str] | None = None,
        log: Callable[[str, str], None] = lambda about, message: None,
        **settings: Any,
    ) -> Station:
        for name in ("workspace", "scratch"):
            (tmp_path / name).mkdir(exist_ok=True)
        return Station(
            plugins=found or plugins(),
            settings=RunnerSettings(**settings),
            places=places(tmp_path / "workspace", {}),
            scratch=tmp_path / "scratch",
            credentials=credentials or {},
            observer=observer or NullObserver(),
            channel=channel or LastReport(),
            log=log,
        )

    return make


async def run(found: TaskDocument, station: Station) -> Outcome:
    async with TaskRun(found, station) as task:
        return await task.execute()


def codes(report: Report) -> str:
    return "".join(step.code for step in report.steps)


async def test_a_task_runs_to_its_output_and_leaves_nothing_behind(station: Callable[..., Station], tmp_path: Path) -> None:
    found = document(
        {"text": "hello {{ params.who }}"},
        {"text": "{{ steps.s0.text }}!", "model": "small"},
        models=[SMALL],
        params={"who": "world"},
        output="{{ task.name }} {{ attempt }}: {{ steps.s1.text }}",
    )
    outcome = await run(found, station())
    assert (outcome.output, outcome.error, outcome.message) == ("demo 2: gpt-x: hello world!", None, None)
    assert (codes(outcome.report), outcome.report.done, outcome.report.attempt) == ("SS", True, 2)
    assert (outcome.usage, outcome.report.usage) == (Usage(calls=1, input_tokens=3, output_tokens=4), UsageReport(1, 3, 4))
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_the_output_is_the_last_steps_text_by_default(station: Callable[..., Station]) -> None:
    assert (await run(document({"text": "a"}, {"text": "b"}), station())).output == "b"


async def test_one_process_runs_many_tasks_one_after_another(station: Callable[..., Station]) -> None:
    lent = station()
    assert [(await run(document({"text": text}), lent)).output for text in ("a", "b", "c")] == ["a", "b", "c"]


async def test_the_first_failure_ends_the_task_and_says_so_of_every_step(station: Callable[..., Station]) -> None:
    async def fail(config: dict[str, Any], context: StepContext) -> StepOutput:
        await asyncio.sleep(0.01)
        raise StepFailed("exited 3: broken")

    found = document(
        custom("slow", "echo", needs=[], seconds=60),
        custom("bad", "fail", needs=[]),
        custom("after", "echo", needs=["bad"]),
    )
    outcome = await run(found, station(plugins(kinds={"fail": FunctionKind(fail)})))
    assert (str(outcome.error), outcome.message, outcome.output) == ("exited 3: broken", "step 'bad': exited 3: broken", None)
    assert [(step.code, step.message) for step in outcome.report.steps] == [
        ("F", "cancelled because step 'bad' failed"),
        ("F", "exited 3: broken"),
        ("K", "cancelled because step 'bad' failed"),
    ]
    assert outcome.report.error is not None
    assert outcome.report.error == ErrorReport(reason=Reason.STEP_FAILED, message="step 'bad': exited 3: broken", step=1)


class Stubborn:
    """Catches its cancellation and goes on, or fails while it cleans up."""

    schema = dict[str, Any]

    async def run(self, config: dict[str, Any], context: StepContext) -> StepOutput:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if "error" in config:
                raise ValueError(config["error"]) from None
        return StepOutput(text="late")


@pytest.mark.parametrize(
    "step", [custom("s", "echo", timeout=1, seconds=60), custom("s", "stubborn", timeout=1), custom("s", "stubborn", timeout=1, error="x")]
)
async def test_a_step_that_takes_too_long_fails_with_its_limit(station: Callable[..., Station], step: dict[str, Any]) -> None:
    outcome = await run(document(step), station(plugins(kinds={"stubborn": Stubborn()})))
    assert (type(outcome.error), str(outcome.error)) == (StepFailed, "timed out after 1 s (timeoutSeconds)")


async def raising(error: Exception) -> StepOutput:
    raise error


@pytest.mark.parametrize(
    ("step", "error", "problem"),
    [
        pytest.param(custom("s", "echo", fail="oh"), StepFailed, "step kind 'echo' failed with RuntimeError: oh", id="a plugin's bug"),
        pytest.param(custom("s", "memory"), OutOfMemory, "resources.limits.memory", id="no memory"),
        pytest.param(custom("s", "timeout", timeout=5), StepFailed, "failed with TimeoutError", id="a time-out of the kind's own"),
        pytest.param(custom("s", "big"), OutputTooLarge, "1048577 bytes, at most 1048576", id="too much text"),
        pytest.param(
            custom("s", "echo", seconds="soon"), InvalidTask, r"spec\.steps\[0\]\.plugin\.with\.seconds: Expected `float`", id="config"
        ),
        pytest.param(
            custom("s", "echo", txt="a"), InvalidTask, r"spec\.steps\[0\]\.plugin\.with: .*unknown field `txt`", id="unknown field"
        ),
        pytest.param(custom("s", "echo", model="smal"), InvalidTask, "no AgentModel 'smal'", id="model"),
    ],
)
async def test_what_goes_wrong_in_a_step_is_a_typed_error(
    station: Callable[..., Station], step: dict[str, Any], error: type[AgentTaskError], problem: str
) -> None:
    lines: list[str] = []
    kinds: dict[str, StepKind] = {
        "memory": FunctionKind(lambda *_: raising(MemoryError())),
        "timeout": FunctionKind(lambda *_: raising(TimeoutError())),
        "big": FunctionKind(lambda *_: asyncio.sleep(0, StepOutput(text="x" * ((1 << 20) + 1)))),
    }
    outcome = await run(document(step), station(plugins(kinds=kinds), log=lambda about, message: lines.append(message)))
    assert type(outcome.error) is error
    assert re.search(problem, str(outcome.error))
    assert any("Traceback" in line for line in lines) == ("failed with" in problem)


@pytest.mark.parametrize(
    ("found", "error", "problem"),
    [
        pytest.param(document(custom("s", "ecco")), UnknownPlugin, "'ecco'.*did you mean 'echo'", id="kind"),
        pytest.param(document({}, execution={"threading": "asink"}), UnknownPlugin, "'asink'", id="threading"),
        pytest.param(document(custom("a", "echo", needs=["b"]), custom("b", "echo", needs=["a"])), InvalidTask, "a → b → a", id="cycle"),
        pytest.param(document({"text": "{{ steps.nope.text }}"}), InvalidTask, "nope", id="template"),
    ],
)
async def test_a_task_that_can_never_run_is_refused_before_its_first_step(
    station: Callable[..., Station], found: TaskDocument, error: type[AgentTaskError], problem: str
) -> None:
    outcome = await run(found, station())
    with pytest.raises(error, match=problem):
        raise outcome.error or AssertionError
    assert set(codes(outcome.report)) == {"K"}


async def test_a_missing_value_at_run_time_fails_the_step(station: Callable[..., Station]) -> None:
    outcome = await run(document({"text": "a"}, {"text": "{{ steps.s0.json.edits }}"}), station())
    assert (type(outcome.error), (outcome.message or "")[:10]) == (StepFailed, "step 's1':")


async def test_large_values_are_rendered_off_the_loop(station: Callable[..., Station]) -> None:
    kinds: list[str] = []

    class Noting(Threads):
        async def run(self, kind: Any, function: Callable[..., Any], *args: object) -> Any:
            kinds.append(kind)
            return await super().run(kind, function, *args)

    found = document(
        {"text": "x" * 10}, custom("big", "big"), {"name": "last", "plugin": {"kind": "echo", "with": {"text": "{{ steps.big.text }}"}}}
    )
    big = FunctionKind(lambda *_: asyncio.sleep(0, StepOutput(text="x" * 100_000)))
    outcome = await run(found, station(plugins(kinds={"big": big}, threads=Noting)))
    assert (len(outcome.output or ""), kinds) == (100_000, ["python-cpu"])


async def test_an_output_over_its_channel_fails_the_task_with_its_size(station: Callable[..., Station], tmp_path: Path) -> None:
    channel = TerminationFile(tmp_path / "termination")
    outcome = await run(document({"text": "x" * 5000}), station(channel=channel))
    channel.close()
    assert (type(outcome.error), outcome.output, codes(outcome.report)) == (OutputTooLarge, None, "S")
    assert "5000 bytes" in str(outcome.error)


async def test_an_output_that_is_no_text_is_refused(station: Callable[..., Station]) -> None:
    half = FunctionKind(lambda *_: asyncio.sleep(0, StepOutput(text="a\ud800")))
    outcome = await run(document(custom("s", "half")), station(plugins(kinds={"half": half})))
    assert "surrogate pair at character 1" in str(outcome.error)


async def test_a_stopped_run_says_what_it_was_at(station: Callable[..., Station]) -> None:
    second = asyncio.Event()

    async def hang(config: dict[str, Any], context: StepContext) -> StepOutput:
        second.set()
        await asyncio.sleep(60)
        return StepOutput()

    found = document({"text": "a"}, custom("b", "hang"), {"text": "never"})
    async with TaskRun(found, station(plugins(kinds={"hang": FunctionKind(hang)}))) as task:
        execution = asyncio.create_task(task.execute())
        await second.wait()
        task.stop("the runner was stopped (SIGTERM)")
        outcome = await execution
    assert (type(outcome.error), str(outcome.error)) == (Interrupted, "the runner was stopped (SIGTERM)")
    assert [(step.code, step.message) for step in outcome.report.steps] == [
        ("S", ""),
        ("F", "the runner was stopped (SIGTERM)"),
        ("K", "the runner was stopped (SIGTERM)"),
    ]
    assert outcome.report.error is not None
    assert outcome.report.error.reason == Reason.LOST


async def test_a_run_that_is_stopped_before_it_starts_runs_nothing(station: Callable[..., Station]) -> None:
    async with TaskRun(document({"text": "a"}), station()) as task:
        task.stop("stopped")
        outcome = await task.execute()
    assert (str(outcome.error), codes(outcome.report)) == ("stopped", "K")


async def test_a_run_without_room_for_its_own_folder_fails_with_what_helps(
    station: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    outcome = await run(document({"text": "a"}), station())
    assert (outcome.error and outcome.error.reason, codes(outcome.report)) == (Reason.STEP_FAILED, "K")
    assert "HOME and TMPDIR can be made in" in str(outcome.error)
    assert "No space left on device; write less" in str(outcome.error)


async def test_a_run_with_no_time_left_reports_what_it_has(station: Callable[..., Station]) -> None:
    async with TaskRun(document({"text": "a"}), station()) as task:
        task.stop("the runner was stopped (SIGTERM)")
        report = task.interrupted()
    assert report.error is not None
    assert (report.done, report.error.message) == (True, "the runner was stopped (SIGTERM); its steps did not end in time")


async def test_cancelling_the_caller_cancels_the_steps(station: Callable[..., Station]) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(config: dict[str, Any], context: StepContext) -> StepOutput:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return StepOutput()

    whole = asyncio.create_task(run(document(custom("s", "wait")), station(plugins(kinds={"wait": FunctionKind(wait)}))))
    await asyncio.wait_for(begun.wait(), 60)
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    await asyncio.wait_for(ended.wait(), 60)


async def test_an_error_of_ours_is_not_the_tasks(station: Callable[..., Station]) -> None:
    class Broken(NullObserver):
        def step_started(self, index: int, step: Any) -> None:
            raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        await run(document({"text": "a"}), station(observer=Broken()))


async def test_a_step_gets_a_clean_environment_and_only_its_own_secrets(station: Callable[..., Station]) -> None:
    seen: dict[str, StepContext] = {}

    async def look(config: dict[str, Any], context: StepContext) -> StepOutput:
        seen[context.name] = context
        assert all(os.path.isdir(context.environment[name]) for name in ("HOME", "TMPDIR"))  # noqa: ASYNC240, PTH112 - a test may
        context.log("hello")
        return StepOutput()

    lines: list[tuple[str, str]] = []
    found = document(
        custom("a", "look"),
        custom("b", "look"),
        pod={"env": [{"name": "MODE", "value": "fast"}]},
        secrets=[{"step": "a", "name": "TOKEN", "env": "AGENTTASK_SECRET_0"}],
    )
    lent = station(
        plugins(kinds={"look": FunctionKind(look)}), credentials={"AGENTTASK_SECRET_0": "s3cret"}, log=lambda *line: lines.append(line)
    )
    assert (await run(found, lent)).error is None
    assert set(seen["a"].environment) == {"PATH", "LANG", "HOME", "TMPDIR", "MODE"}
    assert (seen["a"].secrets, seen["b"].secrets) == ({"TOKEN": "s3cret"}, {})
    assert (list(seen["b"].outputs), lines) == (["a"], [("step a", "hello"), ("step b", "hello")])
    outcome = await run(found, station(plugins(kinds={"look": FunctionKind(look)})))
    assert "no variable AGENTTASK_SECRET_0" in str(outcome.error)


async def test_what_cannot_close_is_logged_and_changes_no_verdict(station: Callable[..., Station]) -> None:
    class Stuck(Threads):
        async def drain(self, timeout: float) -> None:  # noqa: ASYNC109
            raise RuntimeError("stuck")

    lines: list[tuple[str, str]] = []
    outcome = await run(document({"text": "a"}), station(plugins(threads=Stuck), log=lambda *line: lines.append(line)))
    assert (outcome.output, lines) == ("a", [("closing", "threads: RuntimeError: stuck")])


async def test_the_log_has_a_line_for_each_start_and_end_and_no_content(station: Callable[..., Station]) -> None:
    stream = io.StringIO()
    log = Log(stream, lambda: 1_764_000_000.0)
    found = document({"text": "prompt-words", "model": "small"}, {"fail": "two\nlines \x1b[31m"}, {"text": "x"}, models=[SMALL])
    await run(found, station(observer=Observers([log, NullObserver()])))
    text = stream.getvalue()
    lines = [line.split(" ", 1) for line in text.splitlines()]
    assert {time for time, _ in lines} == {"2025-11-24T16:00:00.000Z"}
    said = [re.sub(r"\d+\.\d{3} s", "T s", line) for _, line in lines]
    assert said == [
        "task demo: attempt 2 started, 3 steps",
        "step s0: started (echo)",
        "call 1: chat with model small took T s, 1 call, 3 input and 4 output tokens",
        "step s0: succeeded after T s",
        "step s1: started (echo)",
        r"step s1: failed after T s: step kind 'echo' failed with RuntimeError: two\nlines \x1b[31m",
        "step s2: skipped: cancelled because step 's1' failed",
        "task demo: failed with StepFailed after T s, 1 call, 3 input and 4 output tokens: " + said[5].partition("T s: ")[2],
    ]
    assert "prompt-words" not in text


def test_the_log_tells_a_call_that_failed() -> None:
    stream = io.StringIO()
    log = Log(stream, lambda: 0.0)
    log.model_call_ended(1, seconds=1, usage=Usage(calls=1), finish_reason=None, answered_by="", error=asyncio.CancelledError())
    assert stream.getvalue() == "1970-01-01T00:00:00.000Z call 1: model took 1.000 s, failed: CancelledError\n"
