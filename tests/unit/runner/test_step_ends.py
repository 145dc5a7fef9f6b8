"""How a step ends in a run: skipped by `when`, tried again, failed with the task going on, taken over; and who is told."""

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.task_runs import Stage, codes, document, step

from agenttask.api.checkpoint import KeptFile
from agenttask.api.errors import AgentTaskError, InvalidTask, ModelUnavailable, OutputTooLarge, SoftDeadlineReached, StepFailed
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.runner.keeping import TakenOver
from agenttask.runner.log import Log
from agenttask.runner.observer import NullObserver, Observers

RETRY = {"limit": 2, "backoff": {"initialSeconds": 1, "factor": 1}}


class Fails:
    """Fails with each of these in turn, then succeeds with what it was given."""

    def __init__(self, *errors: AgentTaskError) -> None:
        self.errors = list(errors)
        self.seen: list[str] = []

    async def __call__(self, config: dict[str, Any], context: StepContext) -> StepOutput:
        self.seen.append(config.get("text", ""))
        if self.errors:
            raise self.errors.pop(0)
        return StepOutput(text=self.seen[-1])


@pytest.mark.parametrize(("when", "code", "text"), [("{{ params.go == 'yes' }}", "SSS", "b"), ("{{ params.go == 'no' }}", "SKS", "")])
async def test_a_step_runs_when_its_condition_is_true(tmp_path: Path, when: str, code: str, text: str) -> None:
    steps = [step("a"), step("b", {"text": "b"}, when=when), step("c", {"text": "[{{ steps.b.text }}{{ steps.b.error }}]"})]
    outcome = await Stage(tmp_path).run(document(*steps, params={"go": "yes"}))
    assert (codes(outcome.report), outcome.output) == (code, f"[{text}null]")
    if code == "SKS":
        assert outcome.report.steps[1].message == "`when` is false"


async def test_a_condition_that_is_no_boolean_fails_the_step(tmp_path: Path) -> None:
    outcome = await Stage(tmp_path).run(document(step("a", {"text": "yes"}), step("b", when="{{ steps.a.text }}")))
    assert outcome.message is not None
    assert outcome.message.startswith("step 'b': spec.steps[1].when: true or false is needed, this gives a string ('yes')")
    assert codes(outcome.report) == "SF"


async def test_a_step_is_tried_again_and_sees_its_last_error(tmp_path: Path) -> None:
    fails = Fails(StepFailed("exited 3"), ModelUnavailable("refused"))
    outcome = await Stage(tmp_path, fails=fails).run(document(step("a", {"text": "[{{ lastError }}]"}, kind="fails", retry=RETRY)))
    assert fails.seen == ["[]", "[exited 3]", "[refused]"]
    assert (outcome.output, outcome.report.steps[0].tries) == ("[refused]", 3)


async def test_the_last_error_is_the_steps_when_all_tries_fail(tmp_path: Path) -> None:
    fails = Fails(*(StepFailed(f"exited {number}") for number in range(5)))
    outcome = await Stage(tmp_path, fails=fails).run(document(step("a", kind="fails", retry=RETRY)))
    assert (outcome.message, outcome.report.steps[0].tries) == ("step 'a': exited 2", 3)


@pytest.mark.parametrize("error", [InvalidTask("f", "no"), OutputTooLarge("big")], ids=lambda error: type(error).__name__)
async def test_what_can_never_succeed_is_not_tried_again(tmp_path: Path, error: AgentTaskError) -> None:
    fails = Fails(error)
    outcome = await Stage(tmp_path, fails=fails).run(document(step("a", kind="fails", retry=RETRY)))
    assert (outcome.error, len(fails.seen)) == (error, 1)


async def test_a_template_that_cannot_be_rendered_is_not_tried_again(tmp_path: Path) -> None:
    fails = Fails()
    outcome = await Stage(tmp_path, fails=fails).run(
        document(step("a"), step("b", {"text": "{{ steps.a.json.x }}"}, kind="fails", retry=RETRY))
    )
    assert outcome.message == "step 'b': spec.steps[1].plugin.with.text: steps.a.json is null, it has no 'x'"
    assert fails.seen == []


async def test_each_item_has_its_own_tries_and_the_report_counts_all(tmp_path: Path) -> None:
    fails = Fails(StepFailed("one"), StepFailed("two"))
    found = step("a", {"text": "{{ item }}"}, kind="fails", forEach="{{ ['x', 'y'] }}", retry=RETRY)
    outcome = await Stage(tmp_path, fails=fails).run(document(found))
    assert (outcome.output, fails.seen, outcome.report.steps[0].tries) == ("x\ny", ["x", "x", "x", "y"], 4)


async def test_a_step_gives_its_slot_away_while_it_waits_for_its_next_try(tmp_path: Path) -> None:
    fails = Fails(StepFailed("once"))
    steps = [step("a", kind="fails", needs=[], retry=RETRY), step("b", {"text": "b"}, kind="fails", needs=[])]
    await Stage(tmp_path, fails=fails).run(document(*steps, execution={"maxConcurrentSteps": 1}))
    assert fails.seen == ["", "b", ""]


async def test_a_soft_deadline_ends_the_wait_for_the_next_try(tmp_path: Path) -> None:
    fails = Fails(StepFailed("once"))
    retry = {"limit": 1, "backoff": {"initialSeconds": 3600, "maxSeconds": 3600}}
    async with Stage(tmp_path, fails=fails).make(document(step("a", kind="fails", retry=retry))) as task:
        whole = asyncio.create_task(task.execute())
        while not fails.seen:  # noqa: ASYNC110 - the step sets no event
            await asyncio.sleep(0)
        task.start_no_more(SoftDeadlineReached("no time"))
        outcome = await whole
    assert (str(outcome.error), codes(outcome.report), len(fails.seen)) == ("no time", "F", 1)


async def test_with_continue_on_error_the_task_goes_on_and_later_steps_see_the_error(tmp_path: Path) -> None:
    steps = [
        step("a", kind="fails", continueOnError=True),
        step("b", {"text": "{{ steps.a.error.reason }}: {{ steps.a.error.message }}|{{ steps.a.text }}"}),
    ]
    outcome = await Stage(tmp_path, fails=Fails(StepFailed("exited 3"))).run(document(*steps))
    assert (outcome.error, outcome.output) == (None, "StepFailed: exited 3|")
    assert [(each.code, each.message) for each in outcome.report.steps] == [("F", "exited 3"), ("S", "")]


async def test_continue_on_error_covers_what_the_step_cannot_render(tmp_path: Path) -> None:
    steps = [
        step("a"),
        step("b", {"text": "{{ steps.a.json.x }}"}, continueOnError=True),
        step("c", {"text": "{{ steps.b.error.reason }}"}),
    ]
    outcome = await Stage(tmp_path).run(document(*steps))
    assert (outcome.output, codes(outcome.report)) == ("StepFailed", "SFS")


async def test_a_failure_cancels_the_siblings_and_leaves_the_waiting_ones_skipped(tmp_path: Path) -> None:
    async def sleep(config: dict[str, Any], context: StepContext) -> StepOutput:
        await asyncio.sleep(3600)
        return StepOutput()

    steps = [
        step("a", kind="sleep", needs=[]),
        step("b", kind="fails", needs=[]),
        step("c", kind="sleep", needs=[]),
    ]
    outcome = await Stage(tmp_path, sleep=sleep, fails=Fails(StepFailed("no"))).run(document(*steps, execution={"maxConcurrentSteps": 2}))
    assert [(each.code, each.message) for each in outcome.report.steps] == [
        ("F", "cancelled because step 'b' failed"),
        ("F", "no"),
        ("K", "cancelled because step 'b' failed"),
    ]


async def test_the_higher_priority_starts_first(tmp_path: Path) -> None:
    fails = Fails()
    steps = [step(name, {"text": name}, kind="fails", needs=[], priority=priority) for name, priority in (("a", 0), ("b", -5), ("c", 7))]
    await Stage(tmp_path, fails=fails).run(document(*steps, execution={"maxConcurrentSteps": 1}))
    assert fails.seen == ["c", "a", "b"]


async def test_json_that_is_none_fails_the_step_and_so_does_json_that_is_too_large(tmp_path: Path) -> None:
    async def gives(config: dict[str, Any], context: StepContext) -> StepOutput:
        return StepOutput(json=object() if config["what"] == "object" else ["x" * 1000] * 2000)

    for what, said in (("object", "the step's `json` is no JSON"), ("much", "the step's JSON has 2006001 bytes, at most 1048576")):
        outcome = await Stage(tmp_path, gives=gives).run(document(step("a", {"what": what}, kind="gives")))
        assert said in str(outcome.error)


class Watching(NullObserver):
    """Notes what it is told, in short."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def step_started(self, index: int, step: Any) -> None:
        self.told.append(f"+{index}")

    def step_ended(self, index: int, step: Any, *, seconds: float, error: AgentTaskError | None) -> None:
        self.told.append(f"-{index}{'!' if error else ''}")

    def step_skipped(self, index: int, step: Any, *, why: str) -> None:
        self.told.append(f"skip {index}")

    def step_taken(self, index: int, step: Any, *, attempt: int) -> None:
        self.told.append(f"taken {index} of {attempt}")

    def items_taken(self, index: int, step: Any, *, taken: int, count: int) -> None:
        self.told.append(f"taken {taken} of {count} items of {index}")

    def item_started(self, index: int, step: Any, item: int, count: int) -> None:
        self.told.append(f"+{index}.{item}/{count}")

    def item_ended(self, index: int, step: Any, item: int, count: int, *, seconds: float, error: AgentTaskError | None) -> None:
        self.told.append(f"-{index}.{item}{'!' if error else ''}")

    def try_failed(self, index: int, step: Any, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:
        self.told.append(f"try {tries} of {index}.{item}: {pause}")


async def test_the_observer_is_told_of_steps_items_tries_and_skips(tmp_path: Path) -> None:
    watching = Watching()
    steps = [
        step("a", {"text": "{{ item }}"}, kind="fails", forEach="{{ ['x', 'y'] }}", retry=RETRY, continueOnError=True),
        step("b", when="{{ steps.a.text == 'x' }}"),
        step("c", kind="fails", continueOnError=True),
    ]
    stage = Stage(
        tmp_path, fails=Fails(StepFailed("one"), InvalidTask("f", "two"), StepFailed("three"), StepFailed("four"), StepFailed("five"))
    )
    await stage.run(document(*steps), Observers([watching]))
    assert watching.told == [
        *("+0", "+0.0/2", "try 1 of 0.0: 0.5", "-0.0!"),
        *("+0.1/2", "try 1 of 0.1: 0.5", "try 2 of 0.1: 0.5", "-0.1!", "-0"),
        *("skip 1", "+2", "-2"),
    ]


async def test_the_log_has_a_line_for_each_try_item_and_skip(tmp_path: Path) -> None:
    stream = io.StringIO()
    steps = [
        step("a", {"text": "{{ item }}"}, kind="fails", forEach="{{ ['x', 'y'] }}", retry=RETRY),
        step("b", when="{{ steps.a.text == '' }}"),
    ]
    await Stage(tmp_path, fails=Fails(StepFailed("exited 3"))).run(document(*steps), Log(stream, lambda: 0.0))
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert "step a item 1: try 1 of 3 failed: exited 3; the next in 0.5 s" in lines
    assert [line for line in lines if line.startswith("step a item 2 of 2: succeeded after ")]
    assert "step b: skipped: `when` is false" in lines


class Keeps:
    """Takes over what it is given, and notes what it is told."""

    def __init__(self, steps: dict[int, TakenOver] | None = None, items: dict[tuple[int, int], StepOutput] | None = None) -> None:
        self.steps = steps or {}
        self.items = items or {}
        self.told: list[str] = []

    async def take_over(self, index: int) -> TakenOver | None:
        return self.steps.get(index)

    async def take_over_item(self, index: int, place: int, item: Any) -> StepOutput | None:
        return self.items.get((index, place))

    async def keep_files(self, patterns: Sequence[str]) -> tuple[KeptFile, ...] | None:
        self.told.append(f"files {' '.join(patterns)}")
        if "too-large" in patterns:
            raise OutputTooLarge("too large to keep")
        return tuple(KeptFile(path=pattern, content=b"") for pattern in patterns)

    def step_ended(self, index: int, output: StepOutput, files: tuple[KeptFile, ...] | None = None) -> None:
        self.told.append(f"step {index}: {output.text if output.error is None else output.error.message} {len(files or ())}")

    def step_skipped(self, index: int, why: str) -> None:
        self.told.append(f"skipped {index}")

    def item_ended(self, index: int, place: int, item: Any, output: StepOutput, files: tuple[KeptFile, ...] | None = None) -> None:
        self.told.append(f"item {index}.{place} {item}: {output.text} {len(files or ())}")


async def kept(stage: Stage, keeper: Keeps, *steps: dict[str, Any], **spec: Any) -> Any:
    async with stage.make(document(*steps, **spec), keeper=keeper) as task:
        return await task.execute()


async def test_what_an_earlier_attempt_has_ended_does_not_run(tmp_path: Path) -> None:
    fails = Fails()
    keeper = Keeps(
        {0: TakenOver(output=StepOutput(text="old"), skipped=None, attempt=1), 1: TakenOver(output=StepOutput(), skipped="no", attempt=1)},
        {(2, 0): StepOutput(text="x, before")},
    )
    outcome = await kept(
        Stage(tmp_path, fails=fails),
        keeper,
        step("a", kind="fails"),
        step("b", kind="fails"),
        step("c", {"text": "{{ item }} after {{ previous.text }}"}, kind="fails", forEach="{{ ['x', 'y'] }}"),
        output="{{ steps.a.text }} {{ steps.c.text }}",
    )
    assert (outcome.output, fails.seen) == ("old x, before\ny after x, before", ["y after x, before"])
    assert [(each.code, each.message) for each in outcome.report.steps] == [("S", "ended in attempt 1"), ("K", "no"), ("S", "")]
    assert outcome.report.steps[2].items_ended == 2
    assert keeper.told == ["item 2.1 y: y after x, before 0", "step 2: x, before\ny after x, before 0"]


async def test_what_ends_is_kept_with_its_files(tmp_path: Path) -> None:
    keeper = Keeps()
    outcome = await kept(
        Stage(tmp_path, fails=Fails(StepFailed("no"))),
        keeper,
        step("a", kind="fails", continueOnError=True, keepFiles=["a.txt"]),
        step("b", when="{{ false }}"),
        step("c", {"text": "{{ item }}"}, kind="fails", forEach="{{ ['x', 'y'] }}", keepFiles=["out-{{ index }}.json", "same"]),
    )
    assert outcome.error is None
    assert keeper.told == [
        "step 0: no 0",
        "skipped 1",
        "files out-0.json same",
        "item 2.0 x: x 2",
        "files out-1.json same",
        "item 2.1 y: y 2",
        "files out-0.json same out-1.json",
        "step 2: x\ny 3",
    ]


async def test_files_that_cannot_be_kept_fail_the_step(tmp_path: Path) -> None:
    outcome = await kept(Stage(tmp_path, fails=Fails()), Keeps(), step("a", kind="fails", keepFiles=["too-large"]))
    assert (outcome.message, codes(outcome.report)) == ("step 'a': too large to keep", "F")


async def test_a_taken_step_is_told_to_the_observer(tmp_path: Path) -> None:
    watching = Watching()
    keeper = Keeps({0: TakenOver(output=StepOutput(text="old"), skipped=None, attempt=3)}, {(1, 0): StepOutput(text="x")})
    found = document(step("a"), step("b", forEach="{{ ['x', 'y'] }}"))
    log = io.StringIO()
    async with Stage(tmp_path).make(found, Observers([watching, Log(log, lambda: 0.0)]), keeper=keeper) as task:
        await task.execute()
    assert watching.told[:3] == ["taken 0 of 3", "+1", "taken 1 of 2 items of 1"]
    assert "step b: 1 of 2 items ended in an earlier attempt, and do not run again" in log.getvalue()
