"""`forEach` in a run: order, values, failures, bounds, progress."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.runner_plugins import Threads
from tests.fakes.task_runs import Stage, codes, document, step

from agenttask.api.errors import OutputTooLarge, SoftDeadlineReached, StepFailed
from agenttask.api.report import StepReport
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.runner.run import Outcome

LIST = step("list", {"n": 5}, kind="make")


async def make(config: dict[str, Any], context: StepContext) -> StepOutput:
    """A list of `n` numbers, or the value itself."""
    return StepOutput(json=config["value"] if "value" in config else list(range(config["n"])))


class Work:
    """A step kind that notes what it was given, and fails where it is told to."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.seen: list[str] = []
        self.most = self.running = 0
        self.cancelled: list[str] = []
        self.failing = failing
        self.gate: asyncio.Event | None = None

    async def __call__(self, config: dict[str, Any], context: StepContext) -> StepOutput:
        text = config["text"]
        self.seen.append(text)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            if text in self.failing:
                raise StepFailed(f"{text} is bad")
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        finally:
            self.running -= 1
        return StepOutput(text=text, json=config.get("json"))


def each(text: str = "{{ item }}", *, with_: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return step("each", {"text": text, **(with_ or {})}, kind="work", **{"forEach": "{{ steps.list.json }}", **fields})


async def run(folder: Path, work: Work, *steps: dict[str, Any], **spec: Any) -> Outcome:
    return await Stage(folder, make=make, work=work).run(document(*steps, **spec))


async def test_items_run_one_after_another_and_hand_on_in_their_order(tmp_path: Path) -> None:
    work = Work()
    outcome = await run(
        tmp_path, work, LIST, each("{{ index }}:{{ item }}"), output="{{ steps.each.results | map(attribute='text') | join(',') }}"
    )
    assert (outcome.output, work.most) == ("0:0,1:1,2:2,3:3,4:4", 1)
    assert outcome.report.steps[1].code == "S"
    assert (outcome.report.steps[1].items_ended, outcome.report.steps[1].items) == (5, 5)


async def test_the_text_joins_the_items_and_json_lists_theirs(tmp_path: Path) -> None:
    found = each(with_={"json": {"a": 1}})
    outcome = await run(tmp_path, Work(), LIST, found, output="{{ steps.each.text }}|{{ steps.each.json }}|{{ steps.each.error }}")
    assert outcome.output == '0\n1\n2\n3\n4|[{"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}]|null'


async def test_with_parallelism_items_run_at_once_and_keep_their_places(tmp_path: Path) -> None:
    work = Work()
    outcome = await run(tmp_path, work, LIST, each(parallelism=3))
    assert (outcome.output, work.most) == ("0\n1\n2\n3\n4", 3)


async def test_an_item_sees_the_one_before_it(tmp_path: Path) -> None:
    text = "{% if previous %}{{ previous.text }}{% endif %}{{ item }}"
    assert (await run(tmp_path, Work(), LIST, each(text))).output == "0\n01\n012\n0123\n01234"


async def test_an_item_sees_the_error_of_the_one_before_it(tmp_path: Path) -> None:
    text = "{{ item }}{% if previous and previous.error %} after: {{ previous.error.message }}{% endif %}"
    outcome = await run(tmp_path, Work(("1",)), LIST, each(text, continueOnError=True))
    assert outcome.output == "0\n2 after: 1 is bad\n3\n4"


async def test_an_empty_list_succeeds_with_no_results(tmp_path: Path) -> None:
    empty = step("list", {"n": 0}, kind="make")
    outcome = await run(tmp_path, Work(), empty, each(), output="[{{ steps.each.text }}{{ steps.each.results | length }}]")
    assert (outcome.output, codes(outcome.report)) == ("[0]", "SS")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1}, r"spec\.steps\[1\]\.forEach: a list is needed, this gives a mapping"),
        ("a,b", "a list is needed, this gives a string"),
        (None, "a list is needed, this gives null"),
        ([0] * 100_000, "the list has 100000 items, a step goes through at most 10000"),
    ],
    ids=["mapping", "text", "nothing", "too long"],
)
async def test_what_cannot_be_gone_through_fails_the_step(tmp_path: Path, value: Any, said: str) -> None:
    outcome = await run(tmp_path, Work(), step("list", {"value": value}, kind="make"), each())
    assert outcome.message is not None
    with pytest.raises((StepFailed, OutputTooLarge), match=said):
        raise outcome.error or AssertionError
    assert codes(outcome.report) == "SF"


async def test_the_first_failure_ends_the_step_and_cancels_the_others(tmp_path: Path) -> None:
    work = Work(("1",))
    work.gate = asyncio.Event()
    outcome = await run(tmp_path, work, LIST, each(parallelism=2))
    assert outcome.message == "step 'each': item 2 of 5: 1 is bad"
    assert (work.seen, work.cancelled) == (["0", "1"], ["0"])
    assert outcome.report.error is not None
    assert outcome.report.error.step == 1


async def test_with_continue_on_error_the_others_run_and_the_step_shows_what_failed(tmp_path: Path) -> None:
    found = each(continueOnError=True, parallelism=2)
    shown = "{{ steps.each.error.message }}/{{ steps.each.results | map(attribute='error.message', default='') | join(',') }}"
    outcome = await run(tmp_path, Work(("1", "3")), LIST, found, output=shown)
    assert outcome.output == "2 of 5 items failed; item 2: 1 is bad/,1 is bad,,3 is bad,"
    assert (outcome.report.steps[1].code, outcome.report.steps[1].message) == ("S", "2 of 5 items failed; item 2: 1 is bad")


async def test_an_item_has_a_time_of_its_own(tmp_path: Path) -> None:
    async def slow(config: dict[str, Any], context: StepContext) -> StepOutput:
        await asyncio.sleep(60 if config["text"] == "1" else 0)
        return StepOutput()

    values = step("list", {"value": [{"t": "60", "n": "0"}, {"t": "1", "n": "1"}]}, kind="make")
    found = each("{{ item.n }}", timeoutSeconds="{{ item.t }}")
    outcome = await Stage(tmp_path, make=make, work=slow).run(document(values, found))
    assert outcome.message == "step 'each': item 2 of 2: timed out after 1 s (timeoutSeconds)"


async def test_a_time_that_is_none_is_a_typed_failure_of_its_item(tmp_path: Path) -> None:
    outcome = await run(tmp_path, Work(), LIST, each(timeoutSeconds="{{ item }}"))
    assert outcome.message == "step 'each': item 1 of 5: spec.steps[1].timeoutSeconds: '0' is no whole number of seconds from 1 to 604800"


async def test_items_that_hand_on_too_much_together_end_the_step(tmp_path: Path) -> None:
    async def talks(config: dict[str, Any], context: StepContext) -> StepOutput:
        return StepOutput(text="x" * 300_000)

    outcome = await Stage(tmp_path, make=make, work=talks).run(document(LIST, each()))
    assert isinstance(outcome.error, OutputTooLarge)
    assert "the items hand on more than 1048576 bytes together, after 4 of 5" in str(outcome.error)


async def test_items_and_steps_share_the_tasks_slots(tmp_path: Path) -> None:
    work = Work()
    beside = [step(f"b{number}", {"text": "b"}, kind="work", needs=["list"]) for number in range(3)]
    outcome = await run(tmp_path, work, LIST, each(parallelism=5), *beside, execution={"maxConcurrentSteps": 2})
    assert (work.most, codes(outcome.report)) == (2, "SSSSS")


async def test_a_kind_has_a_limit_of_its_own(tmp_path: Path) -> None:
    work = Work()
    execution = {"maxConcurrentSteps": 10, "maxConcurrentByKind": {"work": 2}}
    await run(tmp_path, work, LIST, each(parallelism=5), execution=execution)
    assert work.most == 2


async def test_templates_that_build_too_much_are_typed_failures(tmp_path: Path) -> None:
    loop = "{% for a in steps.list.json %}{% for b in steps.list.json %}{{ a ~ b }}{% endfor %}{% endfor %}"
    outcome = await run(tmp_path, Work(), step("list", {"n": 5000}, kind="make"), each(loop))
    assert isinstance(outcome.error, OutputTooLarge)
    assert "the loops of the template visit more than 100000 items" in str(outcome.error)


async def test_a_thousand_items_tell_their_progress(tmp_path: Path) -> None:
    stage = Stage(tmp_path, make=make, work=Work())
    outcome = await stage.run(document(step("list", {"n": 1000}, kind="make"), each(parallelism=10)))
    assert outcome.report.steps[1] == StepReport(
        1, "S", outcome.report.steps[1].started_ms, outcome.report.steps[1].duration_ms, "", 0, 1000, 1000
    )


async def test_after_a_soft_deadline_running_items_end_and_no_other_starts(tmp_path: Path) -> None:
    work = Work()
    work.gate = asyncio.Event()
    stage = Stage(tmp_path, make=make, work=work)
    async with stage.make(document(LIST, each(parallelism=2), step("after", {"text": "x"}, kind="work"))) as task:
        whole = asyncio.create_task(task.execute())
        while len(work.seen) < 2:  # noqa: ASYNC110 - the work sets no event
            await asyncio.sleep(0)
        task.start_no_more(SoftDeadlineReached("540 s are over"))
        work.gate.set()
        outcome = await whole
    assert (str(outcome.error), work.seen, work.cancelled) == ("540 s are over", ["0", "1"], [])
    assert (codes(outcome.report), outcome.report.steps[1].items_ended) == ("SFK", 2)
    assert outcome.report.steps[2].message == "540 s are over"


async def test_rendering_with_large_outputs_leaves_the_loop(tmp_path: Path) -> None:
    threads: list[str] = []

    class Noting(Threads):
        async def run(self, kind: Any, function: Any, *args: object) -> Any:
            threads.append(kind)
            return await super().run(kind, function, *args)

    large = step("list", {"value": ["x" * 40_000, "y" * 40_000]}, kind="make")
    stage = Stage(tmp_path, make=make, work=Work())
    stage.threads = Noting
    outcome = await stage.run(document(large, each("{{ item | length }}"), output="{{ steps.each.text }}"))
    assert outcome.output == "40000\n40000"
    assert threads == ["python-cpu"] * 4


async def test_rendering_with_small_outputs_stays_on_the_loop(tmp_path: Path) -> None:
    stage = Stage(tmp_path, make=make, work=Work())
    stage.threads = NoThreads
    outcome = await stage.run(document(LIST, each(), output="{{ steps.each.text }}"))
    assert outcome.output == "0\n1\n2\n3\n4"


class NoThreads(Threads):
    async def run(self, kind: Any, function: Any, *args: object) -> Any:
        raise AssertionError("no thread is needed for this")
