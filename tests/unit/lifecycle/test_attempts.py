"""What follows the end of an attempt: back-off and another one, the end of the task, suspension, cancellation."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.seen import CREATED, POD, ended, pod, running, said, seen, task

from agenttask.api.reasons import TERMINAL_REASONS, Phase, Reason
from agenttask.api.report import ErrorReport, StepReport, UsageReport
from agenttask.api.task import AgentTaskStatus, Backoff, UsageStatus
from agenttask.domain import attempts, moment, retry
from agenttask.domain.conditions import holds
from agenttask.domain.observation import Observation, Rejection, SeenTask, Waits
from agenttask.domain.plan import CreatePod, DeletePod, Plan, plan
from agenttask.domain.retry import FAILURES, Failure


def failed(attempt: int = 1) -> str:
    """The last words of an attempt whose second step failed."""
    return said(
        attempt=attempt,
        done=True,
        error=ErrorReport(reason=Reason.STEP_FAILED, message="exit code 3", step=1),
        steps=(StepReport(0, "S", 0, 500), StepReport(1, "F", 500, 250)),
        usage=UsageReport(2, 30, 12, "0.1 USD"),
    )


LOST = seen(running(2, gone=True))


def at(seconds: float, found: Observation, one: SeenTask) -> Plan:
    return plan(one, found, CREATED + seconds)


def after(one: SeenTask, made: Plan) -> SeenTask:
    assert made.status is not None
    return msgspec.structs.replace(one, status=made.status)


def second(one: object = None, **fields: object) -> Observation:
    """What is seen of the second attempt."""
    return msgspec.structs.replace(seen(one, **fields), attempt=2, pod_name="review-0123456789-2")  # type: ignore[arg-type]


def test_a_failure_of_the_tasks_own_is_followed_by_another_attempt_after_a_pause() -> None:
    one = task(retry={"limit": 1})

    made = at(6, seen(ended(failed(), exit_code=1)), one)

    status = made.status
    assert status is not None
    assert (status.phase, status.reason, status.completion_time) == (Phase.QUEUED, Reason.BACKING_OFF, None)
    assert (status.attempt, status.ended_attempts, status.failures, status.infrastructure_restarts) == (1, 1, 1, 0)
    assert "attempt 1 ended as StepFailed: exit code 3; the next one follows in 5 s" in (status.message or "")
    assert status.progress == "1/3"
    assert status.active_seconds == 3
    due = moment.parse(status.next_attempt_time)
    assert due is not None
    assert 11 <= due - CREATED <= 13

    waits = at(8, second(), after(one, made))
    assert (waits.actions, waits.status) == ((), None)
    assert waits.requeue_after == pytest.approx(due - CREATED - 8)
    assert at(due - CREATED, second(), after(one, made)).actions == (CreatePod(attempt=2),)


def test_the_last_failure_ends_the_task_and_says_how_often_it_was_tried() -> None:
    one = task(AgentTaskStatus(failures=1, ended_attempts=1, attempt=1, active_seconds=3), retry={"limit": 1})

    made = at(60, second(ended(failed(2), exit_code=1, attempt=2)), one)

    assert made.status is not None
    assert (made.status.phase, made.status.reason) == (Phase.FAILED, Reason.BACKOFF_LIMIT_EXCEEDED)
    assert "2 attempts ended badly, and retry.limit is 1; the last: " in (made.status.message or "")


def test_a_task_that_may_try_once_ends_with_the_failure_itself() -> None:
    made = at(6, seen(ended(failed(), exit_code=1)), task())

    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.message) == (Phase.FAILED, Reason.STEP_FAILED, "exit code 3")


def test_what_the_cluster_does_is_counted_apart() -> None:
    one = task()

    made = at(10, LOST, one)

    assert made.status is not None
    assert (made.status.reason, made.status.failures, made.status.infrastructure_restarts) == (Reason.BACKING_OFF, 0, 1)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(LOST, id="its pod vanished"),
        pytest.param(seen(running(2, deletion=CREATED + 40)), id="its node is lost"),
        pytest.param(seen(pod(deletion=CREATED + 40)), id="its node is lost, and had told of no start"),
        pytest.param(seen(pod(gone=True)), id="its pod vanished from a node that had told of no start"),
        pytest.param(seen(pod(gone=True, phase="Failed", disrupted=True)), id="it was collected with its node"),
        pytest.param(seen(ended(exit_code=137, reason="ContainerStatusUnknown", started=None)), id="its node does not find it any more"),
    ],
)
def test_an_attempt_of_unknown_fate_is_not_repeated_where_the_task_forbids_it(found: Observation) -> None:
    made = at(500, found, task(execution={"atMostOnce": True}, pendingDeadlineSeconds=3600))

    assert made.status is not None
    assert (made.status.phase, made.status.reason) == (Phase.FAILED, Reason.LOST)
    assert "atMostOnce" in (made.status.message or "")


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(seen(ended(exit_code=143)), id="its end was told"),
        pytest.param(seen(pod(gone=True, node="")), id="it never had a node"),
        pytest.param(seen(pod(phase="Failed", reason="OutOfcpu")), id="its node refused it"),
        pytest.param(seen(ended(exit_code=137, reason="ContainerStatusUnknown", deletion=CREATED + 40)), id="its node stopped it"),
    ],
)
def test_an_attempt_of_known_fate_is_repeated_all_the_same(found: Observation) -> None:
    made = at(10, found, task(execution={"atMostOnce": True}))

    assert made.status is not None
    assert made.status.reason is Reason.BACKING_OFF


def test_at_most_once_puts_the_attempt_on_record_before_its_pod_is_made() -> None:
    one = task(execution={"atMostOnce": True})

    (action,) = at(1, seen(), one).actions

    assert isinstance(action, CreatePod)
    assert action.record is not None
    assert (action.record.phase, action.record.attempt, action.record.pod_name) == (Phase.STARTING, 1, POD)
    recorded = msgspec.structs.replace(one, status=action.record)
    lost = at(2, seen(), recorded).status
    assert lost is not None
    assert (lost.phase, lost.reason) == (Phase.FAILED, Reason.LOST)
    assert at(2, seen(unanswered=True), recorded).actions == (CreatePod(attempt=1),)


def test_a_pod_that_the_api_server_refused_is_not_lost() -> None:
    recorded = AgentTaskStatus(attempt=1, pod_name=POD, phase=Phase.STARTING)
    quota = Rejection(reason=Reason.UNSCHEDULABLE, message="exceeded quota", passing=True)
    in_line = Waits(reason=Reason.UNSCHEDULABLE, message="exceeded quota")

    made = at(10, seen(rejection=quota, admission=in_line), task(recorded, execution={"atMostOnce": True}))

    assert made.status is not None
    assert (made.status.phase, made.status.reason) == (Phase.QUEUED, Reason.UNSCHEDULABLE)


def test_running_time_adds_up_and_ends_the_task() -> None:
    before = AgentTaskStatus(failures=1, ended_attempts=1, attempt=1, active_seconds=98)
    one = task(before, retry={"limit": 5})

    made = at(60, second(ended(failed(2), exit_code=1, attempt=2, started=40, finished=43)), one)
    assert made.status is not None
    assert (made.status.reason, made.status.active_seconds) == (Reason.DEADLINE_EXCEEDED, 101)

    runs = after(one, at(45, second(running(40, attempt=2)), one))
    stops = at(60, second(running(40, attempt=2)), runs)
    assert [action.why for action in stops.actions if isinstance(action, DeletePod)] == ["activeDeadlineSeconds"]


def test_an_attempt_that_went_unseen_ran_as_long_as_it_can_have_run() -> None:
    """A controller killed between the DELETE at the deadline and the status must not give the task its time anew."""
    one = task(retry={"limit": 5})
    runs = after(one, at(10, seen(running(2)), one))

    early, late = at(60, seen(), runs).status, at(120, seen(), runs).status

    assert early is not None
    assert late is not None
    assert (early.reason, early.active_seconds) == (Reason.BACKING_OFF, 58)
    assert (late.phase, late.reason) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)


def test_a_pod_that_is_gone_ran_no_longer_than_its_grace_however_late_its_end_is_written() -> None:
    """The API server took no writes for an hour: that is not the task's running time."""
    made = at(3600, seen(running(2, gone=True, deletion=CREATED + 40)), task())

    assert made.status is not None
    assert (made.status.reason, made.status.active_seconds) == (Reason.BACKING_OFF, 38)


def test_usage_of_all_attempts_adds_up() -> None:
    before = AgentTaskStatus(ended_attempts=1, usage=UsageStatus(calls=1, input_tokens=2, output_tokens=3, total_tokens=5, cost="0.15 USD"))

    made = at(6, second(ended(failed(2), exit_code=1, attempt=2)), task(before))

    assert made.status is not None
    assert made.status.usage == UsageStatus(calls=3, input_tokens=32, output_tokens=15, total_tokens=47, cost="0.25 USD")


def test_the_pending_deadline_starts_anew_after_a_back_off() -> None:
    before = AgentTaskStatus(ended_attempts=1, failures=1, next_attempt_time=moment.render(CREATED + 500))

    assert at(559, second(), task(before)).actions == (CreatePod(attempt=2),)
    late = at(561, second(), task(before)).status
    assert late is not None
    assert late.reason is Reason.PENDING_DEADLINE_EXCEEDED


def test_a_pod_that_was_taken_away_before_the_deadline_is_no_matter_of_the_deadline() -> None:
    """Its grace would have ended after it."""
    made = at(45, seen(pod(gone=True, deletion=CREATED + 75)), task())

    assert made.status is not None
    assert (made.status.reason, made.status.infrastructure_restarts) == (Reason.BACKING_OFF, 1)


def test_a_pod_that_its_own_deadline_ended_before_it_started_was_pending_too_long() -> None:
    """The controller was away: a task that never ran has not run too long."""
    found = pod(phase="Failed", reason="DeadlineExceeded", waiting_reason="ImagePullBackOff", waiting_message="no such image")

    made = at(200, seen(found), task())

    assert made.status is not None
    assert (made.status.reason, made.status.active_seconds) == (Reason.PENDING_DEADLINE_EXCEEDED, 0)
    assert made.status.message == "not started within 60 s; waiting for ImagePull: no such image"
    ran = at(200, seen(pod(running_since=CREATED + 2, phase="Failed", reason="DeadlineExceeded")), task()).status
    assert ran is not None
    assert ran.reason is Reason.DEADLINE_EXCEEDED


# ---- suspend


def test_a_suspended_task_gets_no_pod_and_no_deadline() -> None:
    one = task(suspend=True)

    made = at(0, seen(), one)

    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.ended_attempts) == (Phase.SUSPENDED, Reason.SUSPENDED, 0)
    assert holds(made.status.conditions, "Suspended")  # type: ignore[arg-type]
    assert at(9999, seen(), after(one, made)) == Plan()


def test_suspending_stops_the_pod_with_its_grace_and_counts_for_no_limit() -> None:
    one = task(suspend=True)
    interrupted = said(done=True, error=ErrorReport(reason=Reason.LOST, message="stopped"), steps=(StepReport(0, "S", 0, 500),))

    stops = at(10, seen(running()), one)
    assert [action.why for action in stops.actions if isinstance(action, DeletePod)] == ["spec.suspend"]
    assert at(11, seen(running(deletion=CREATED + 50)), one).status is None
    made = at(12, seen(ended(interrupted, exit_code=1, deletion=CREATED + 50)), one)

    status = made.status
    assert status is not None
    assert (status.phase, status.ended_attempts, status.failures, status.infrastructure_restarts) == (Phase.SUSPENDED, 1, 0, 0)
    assert status.progress == "1/3"


def test_a_task_that_ended_before_it_could_be_suspended_has_ended() -> None:
    for message, phase in ((said(done=True, output="x"), Phase.SUCCEEDED), (failed(), Phase.FAILED)):
        made = at(12, seen(ended(message, exit_code=0 if phase is Phase.SUCCEEDED else 1, deletion=CREATED + 50)), task(suspend=True))
        assert made.status is not None
        assert made.status.phase is phase


def test_a_task_goes_on_as_the_next_attempt_and_waits_from_then_on() -> None:
    one = task(suspend=True)
    stopped = after(one, at(12, seen(ended(exit_code=143, deletion=CREATED + 50)), one))
    again = msgspec.structs.replace(task(), status=stopped.status)

    made = at(5000, second(), again)

    assert made.status is not None
    assert (made.status.phase, made.status.reason) == (Phase.QUEUED, Reason.RESUMED)
    goes_on = after(again, made)
    assert at(5059, second(), goes_on).actions == (CreatePod(attempt=2),)
    late = at(5061, second(), goes_on).status
    assert late is not None
    assert late.reason is Reason.PENDING_DEADLINE_EXCEEDED


# ---- cancel


def test_cancelling_a_waiting_task_ends_it_at_once() -> None:
    made = at(1, seen(), task(cancel=True))

    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.ended_attempts) == (Phase.CANCELLED, Reason.CANCELLED_BY_USER, 0)
    assert holds(made.status.conditions, "Failed")  # type: ignore[arg-type]


def test_cancelling_a_running_task_stops_its_pod_and_waits_for_its_last_words() -> None:
    one = task(cancel=True, suspend=True, retry={"limit": 5})

    stops = at(10, seen(running()), one)
    assert [action.why for action in stops.actions if isinstance(action, DeletePod)] == ["spec.cancel"]
    assert stops.status is None
    made = at(12, seen(ended(failed(), exit_code=1, deletion=CREATED + 50)), one)
    assert made.status is not None
    assert (made.status.phase, made.status.progress) == (Phase.CANCELLED, "1/3")


def test_a_cancelled_task_on_a_lost_node_ends_when_the_node_counts_as_lost() -> None:
    made = at(400, seen(running(deletion=CREATED + 50)), task(cancel=True))

    assert made.status is not None
    assert made.status.phase is Phase.CANCELLED


def test_success_wins_over_cancelling() -> None:
    made = at(12, seen(ended(said(done=True, output="x"))), task(cancel=True))

    assert made.status is not None
    assert made.status.phase is Phase.SUCCEEDED


# ---- somebody else's


@pytest.mark.parametrize(("manager", "ours"), [(None, True), ("agenttask.dev/controller", True), ("kueue.x-k8s.io/multikueue", False)])
def test_a_task_of_another_controller_is_left_alone(manager: str | None, ours: bool) -> None:
    one = task() if manager is None else task(managedBy=manager)

    assert (at(10, seen(), one) != Plan()) is ours
    assert (at(10, seen(ended(failed(), exit_code=1)), one) != Plan()) is ours


# ---- classes and pauses


def test_every_bad_end_of_an_attempt_has_a_class() -> None:
    of_the_task = {
        Reason.SUCCEEDED,
        Reason.PENDING_DEADLINE_EXCEEDED,
        Reason.BACKOFF_LIMIT_EXCEEDED,
        Reason.INFRASTRUCTURE_LIMIT_EXCEEDED,
        Reason.CANCELLED_BY_USER,
    }
    assert FAILURES.keys() == set(TERMINAL_REASONS) - of_the_task


@given(st.integers(1, 10_000), st.integers(1, 604_800), st.integers(1, 10), st.integers(1, 604_800), st.uuids(), st.integers(1, 1000))
def test_a_pause_grows_to_its_limit_and_is_the_same_after_a_restart(
    count: int, initial: int, factor: int, most: int, uid: object, attempt: int
) -> None:
    backoff = Backoff(initial_seconds=initial, factor=factor, max_seconds=most)
    pause = retry.pause(backoff, count, uid=str(uid), attempt=attempt)

    assert min(initial, most) <= pause <= most * (1 + retry.SPREAD)
    assert pause == retry.pause(backoff, count, uid=str(uid), attempt=attempt)
    assert retry.pause(backoff, count + 1, uid=str(uid), attempt=attempt) >= pause


def test_a_permanent_failure_is_not_tried_again_whatever_the_limit() -> None:
    assert retry.limit_of(task(retry={"limit": 100}).spec, Failure.PERMANENT) == 0  # type: ignore[arg-type]
    made = at(
        6,
        seen(ended(said(done=True, error=ErrorReport(reason=Reason.MODEL_REJECTED, message="401")), exit_code=1)),
        task(retry={"limit": 9}),
    )
    assert made.status is not None
    assert made.status.reason is Reason.MODEL_REJECTED


def test_the_current_attempt_is_the_one_after_those_that_ended() -> None:
    assert attempts.current(task()) == 1
    assert attempts.current(task(AgentTaskStatus(ended_attempts=4))) == 5
