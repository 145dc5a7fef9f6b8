"""Steps and usage as status shows them, from a report that may claim anything."""

import pytest
from tests.fakes.seen import ended, seen, spec, task

from agenttask.api.reasons import Phase, Reason, StepPhase
from agenttask.api.report import ErrorReport, Report, StepReport, UsageReport
from agenttask.domain import lifecycle, outcome, progress

STEPS = [{"name": name, "read": {"paths": ["a"]}} for name in ("one", "two", "three")]
NOW = 2_000_000_000.0


def told(*steps: StepReport) -> list[tuple[str, StepPhase, int, str | None]]:
    found = progress.steps_of(spec(steps=STEPS).steps, Report(steps=steps), ended(), ended=True, now=NOW)
    return [(step.name, step.phase, step.tries, step.items) for step in found]


def test_tries_and_items_are_those_of_the_report() -> None:
    assert told(StepReport(0, "S", 0, 10, "", 3), StepReport(1, "F", 10, 10, "broke", 7, 3, 5), StepReport(2, "K", 0, 0, "", 0, 0, 4)) == [
        ("one", StepPhase.SUCCEEDED, 3, None),
        ("two", StepPhase.FAILED, 7, "3/5"),
        ("three", StepPhase.SKIPPED, 0, "0/4"),
    ]


def test_a_report_without_them_shows_none() -> None:
    assert told(StepReport(0, "S"), StepReport(1, "R")) == [
        ("one", StepPhase.SUCCEEDED, 0, None),
        ("two", StepPhase.FAILED, 0, None),
        ("three", StepPhase.SKIPPED, 0, None),
    ]


def test_no_more_items_end_than_there_are() -> None:
    assert told(StepReport(0, "S", 0, 0, "", 0, 9, 5))[0] == ("one", StepPhase.SUCCEEDED, 0, "5/5")


@pytest.mark.parametrize("cost", ["0.0123 USD", "12 EUR", "0.5 USD + 1.25 EUR"])
def test_a_cost_is_shown_as_it_was_told(cost: str) -> None:
    usage = progress.usage_of(Report(usage=UsageReport(2, 30, 4, cost)))

    assert usage is not None
    assert (usage.calls, usage.total_tokens, usage.cost) == (2, 34, cost)


@pytest.mark.parametrize("cost", ["", "free", "1 usd", "1.5", "-1 USD", "1 USD and a poem", "1 USD + ", "1 USD\n"])
def test_what_is_no_cost_is_not_shown(cost: str) -> None:
    usage = progress.usage_of(Report(usage=UsageReport(1, 1, 1, cost)))

    assert usage is not None
    assert usage.cost is None


def test_without_a_call_there_is_no_usage() -> None:
    assert progress.usage_of(None) is None
    assert progress.usage_of(Report(usage=UsageReport(0, 0, 0, "1 USD"))) is None


def test_a_task_that_reached_its_soft_deadline_failed_for_that_reason_and_keeps_what_was_done() -> None:
    error = ErrorReport(reason=Reason.SOFT_DEADLINE_REACHED, message="softDeadlineSeconds passed with 2 steps left")
    report = Report(done=True, steps=(StepReport(0, "S", 0, 10),), error=error, usage=UsageReport(1, 2, 3, "0.1 USD"))
    end = outcome.Outcome(reason=error.reason, message=error.message, report=report)

    over = lifecycle.AttemptEnd(reason=end.reason, message=end.message, outcome=end)
    status = lifecycle.finished(task(steps=STEPS), seen(ended()), over, NOW)

    assert (status.phase, status.reason, status.message) == (Phase.FAILED, "SoftDeadlineReached", error.message)
    assert [step.phase for step in status.steps] == [StepPhase.SUCCEEDED, StepPhase.SKIPPED, StepPhase.SKIPPED]
    assert status.progress == "1/3"
    assert status.usage is not None
    assert status.usage.cost == "0.1 USD"
