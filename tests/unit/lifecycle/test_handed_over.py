"""What an attempt handed to the gateway, in its task's status: progress while it runs, a large output at its end."""

from typing import Any

import pytest
from tests.fakes.seen import CREATED, UID, ended, running, said, seen, task

from agenttask.api.reasons import Phase, Reason, StepPhase
from agenttask.api.report import ErrorReport, ObjectReport, Report, StepReport, UsageReport
from agenttask.api.task import AgentTaskStatus, OutputRef
from agenttask.domain.observation import StoredOutput
from agenttask.domain.plan import Plan, plan

NOW = CREATED + 30
POD = running()
ONE_DONE = Report(started=int(CREATED + 2) * 1000, steps=(StepReport(0, "S", 0, 1500), StepReport(1, "R", 1500, items_ended=1, items=4)))
RECORD = OutputRef(kind="AgentTaskRecord", name="review-0123456789", key="output")
SHORT = StoredOutput(ref=RECORD, text="all of it")
LONG = StoredOutput(ref=RECORD)


def status_of(made: Plan) -> AgentTaskStatus:
    assert made.status is not None
    return made.status


def shown(live: Report | None = None) -> AgentTaskStatus:
    """The status of a task that runs, as it was written."""
    return status_of(plan(task(), seen(POD, live=live), NOW))


def test_the_steps_of_a_running_attempt_are_shown_as_it_told() -> None:
    status = shown(ONE_DONE)
    first, second, third = status.steps
    assert (status.phase, status.progress) == (Phase.RUNNING, "1/3")
    assert (first.phase, first.started_at, first.finished_at) == (
        StepPhase.SUCCEEDED,
        "2027-01-15T08:00:02.000Z",
        "2027-01-15T08:00:03.500Z",
    )
    assert (second.phase, second.items, second.finished_at) == (StepPhase.RUNNING, "1/4", None)
    assert third.phase is StepPhase.PENDING


def test_progress_is_written_when_it_is_due() -> None:
    made = plan(task(shown()), seen(POD, live=ONE_DONE, live_due=NOW), NOW)
    assert status_of(made).progress == "1/3"


def test_before_that_it_waits_and_comes_by_itself() -> None:
    made = plan(task(shown()), seen(POD, live=ONE_DONE, live_due=NOW + 7), NOW)
    assert (made.status, made.requeue_after) == (None, 7.0)


def test_what_is_shown_already_is_not_written_again() -> None:
    assert plan(task(shown(ONE_DONE)), seen(POD, live=ONE_DONE), NOW + 60).status is None


def test_a_controller_that_has_forgotten_the_reports_takes_nothing_back() -> None:
    assert plan(task(shown(ONE_DONE)), seen(POD), NOW + 60).status is None


def test_usage_is_counted_once_when_the_attempt_ends() -> None:
    told = Report(started=0, steps=(StepReport(0, "S"),), usage=UsageReport(2, 10, 20))
    running_status = shown(told)
    assert running_status.usage is None
    final = status_of(plan(task(running_status), seen(ended(said(done=True, output="x", usage=told.usage)), live=told), NOW))
    assert final.usage is not None
    assert final.usage.calls == 2


def test_an_attempt_that_was_taken_away_shows_the_last_that_it_told() -> None:
    gone = running(gone=True)
    final = status_of(plan(task(shown(ONE_DONE), retry={"maxInfrastructureRestarts": 0}), seen(gone, live=ONE_DONE), NOW))
    first, second, _ = final.steps
    assert (final.reason, final.progress) == (Reason.LOST, "1/3")
    assert (first.phase, second.phase, second.message) == (StepPhase.SUCCEEDED, StepPhase.FAILED, "it was running when the attempt ended")


@pytest.mark.parametrize(
    ("stored", "output", "ref"),
    [
        pytest.param(SHORT, "all of it", None, id="short enough for the status"),
        pytest.param(LONG, None, RECORD, id="too long for it"),
    ],
)
def test_a_stored_output_is_shown_or_named(stored: StoredOutput, output: str | None, ref: OutputRef | None) -> None:
    final = status_of(plan(task(), seen(ended(said(done=True, output_stored=True)), stored=stored), NOW))
    assert (final.phase, final.output, final.output_ref) == (Phase.SUCCEEDED, output, ref)


def test_a_runner_that_claims_to_have_stored_what_is_nowhere_has_not_succeeded() -> None:
    final = status_of(plan(task(), seen(ended(said(done=True, output_stored=True))), NOW))
    assert (final.phase, final.reason) == (Phase.FAILED, Reason.RUNNER_CRASHED)
    assert final.message is not None
    assert final.message.startswith("the runner said that the output is stored, and no AgentTaskRecord has it of this attempt: ")


@pytest.mark.parametrize(
    "report",
    [
        pytest.param({"output": "in the report"}, id="it never said so"),
        pytest.param({"output_stored": True, "error": ErrorReport(reason=Reason.STEP_FAILED, message="m")}, id="it failed afterwards"),
    ],
)
def test_a_stored_output_counts_only_for_success_that_names_it(report: dict[str, Any]) -> None:
    final = status_of(plan(task(), seen(ended(said(done=True, **report)), stored=LONG), NOW))
    assert (final.output_ref, final.output) == (None, report.get("output"))


def test_an_output_in_the_object_store_is_named() -> None:
    told = ObjectReport(f"s3://outputs/agents/agents/review/{UID}/attempt-1/output", 5, "a" * 64)
    stored = StoredOutput(ref=OutputRef(kind="ObjectStore", name="s3://outputs/agents", key="k", size=5, sha256="a" * 64))
    final = status_of(plan(task(), seen(ended(said(done=True, output_object=told)), stored=stored), NOW))
    assert (final.phase, final.output, final.output_ref) == (Phase.SUCCEEDED, None, stored.ref)


def test_one_that_is_not_where_this_attempt_may_leave_it_is_no_success() -> None:
    told = ObjectReport("s3://elsewhere/output", 5, "a" * 64)
    final = status_of(plan(task(), seen(ended(said(done=True, output_object=told)), disbelieved="of no place of this attempt"), NOW))
    assert (final.phase, final.reason, final.output_ref) == (Phase.FAILED, Reason.RUNNER_CRASHED, None)
    assert final.message == "of no place of this attempt"


def test_an_output_that_waits_for_its_record_is_told_at_once_and_until_it_is_stored() -> None:
    waits = seen(POD, live=ONE_DONE, live_due=NOW + 7, waits_for_record="exceeded quota: few; raise it")
    told = status_of(plan(task(shown(ONE_DONE)), waits, NOW))
    assert (told.phase, told.reason, told.message) == (Phase.RUNNING, Reason.RECORD_QUOTA_EXCEEDED, "exceeded quota: few; raise it")
    assert [(one.type, one.status, one.reason) for one in told.conditions] == [
        ("Accepted", "True", "Accepted"),
        ("PodReady", "True", "PodRunning"),
    ]
    assert plan(task(told), waits, NOW + 1).status is None
    again = status_of(plan(task(told), seen(POD, live=ONE_DONE), NOW + 2))
    assert (again.reason, again.message) == (Reason.POD_RUNNING, None)
