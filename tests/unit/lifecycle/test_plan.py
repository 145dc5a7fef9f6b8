"""What is done about a task in each state, and what is not written."""

import msgspec
import pytest
from tests.fakes.seen import CREATED, POD, UID, ended, pod, running, said, seen, spec, task

from agenttask.api.meta import Condition
from agenttask.api.reasons import Phase, Reason, StepPhase
from agenttask.api.report import ErrorReport, StepReport, UsageReport
from agenttask.api.task import AgentTaskStatus, StepStatus, UsageStatus
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import Observation, Refused, Rejection, SeenPod, SeenTask, Waits
from agenttask.domain.plan import CreatePod, DeletePod, Plan, plan

NO_MODEL = Waits(reason=Reason.UNKNOWN_MODEL, message="no AgentModel 'small'")
NO_RESTART = {"maxInfrastructureRestarts": 0}
NOBODY = "0/1 nodes are available"


def at(seconds: float, found: Observation, one: SeenTask | None = None) -> Plan:
    return plan(one or task(), found, CREATED + seconds)


def applied(one: SeenTask, made: Plan) -> SeenTask:
    assert made.status is not None
    return msgspec.structs.replace(one, status=made.status)


def conditions(made: Plan) -> dict[str, tuple[str, str]]:
    assert made.status is not None
    return {condition.type: (condition.status, condition.reason) for condition in made.status.conditions}


# ---- nothing to do


def test_a_task_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    assert at(50, seen(running()), task(deleting=True)) == Plan()


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
@pytest.mark.parametrize("one", [None, pod(), running(), ended()], ids=["no pod", "pod", "running", "ended"])
def test_final_is_final(phase: Phase, one: SeenPod | None) -> None:
    assert at(9999, seen(one), task(AgentTaskStatus(phase=phase))) == Plan()


# ---- before the pod


def test_an_admitted_task_gets_its_pod_and_no_status() -> None:
    assert at(0, seen()) == Plan(actions=(CreatePod(),))


def test_a_refused_task_fails_before_any_pod() -> None:
    made = at(0, seen(admission=Refused(reason=Reason.INVALID_TEMPLATE, message="spec.output: odd")))

    assert made.actions == ()
    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.message) == (Phase.FAILED, Reason.INVALID_TEMPLATE, "spec.output: odd")
    assert conditions(made) == {"Accepted": ("False", "InvalidTemplate"), "Failed": ("True", "InvalidTemplate")}
    assert made.status.attempt == 0
    assert made.status.observed_generation == 3


def test_a_spec_that_cannot_be_read_is_an_invalid_task() -> None:
    unreadable = msgspec.structs.replace(task(), spec=None, problem="Object contains unknown field `forEach` - at `spec.steps[0]`")

    made = at(0, seen(), unreadable)

    assert made.status is not None
    assert made.status.reason is Reason.INVALID_TASK
    assert "forEach" in (made.status.message or "")


def test_a_missing_thing_is_told_after_two_seconds_and_not_again() -> None:
    early, later = at(1, seen(admission=NO_MODEL)), at(3, seen(admission=NO_MODEL))

    assert (early.status, early.requeue_after) == (None, 2)
    assert later.status is not None
    assert (later.status.phase, later.status.reason) == (Phase.QUEUED, Reason.UNKNOWN_MODEL)
    assert conditions(later) == {"Accepted": ("True", "Accepted"), "PodReady": ("False", "UnknownModel")}
    jitter = Waits(reason=Reason.UNKNOWN_MODEL, message="in other words")
    assert at(9, seen(admission=jitter), applied(task(), later)) == Plan(requeue_after=51)


def test_another_reason_is_told() -> None:
    waiting = applied(task(), at(3, seen(admission=NO_MODEL)))
    other = Waits(reason=Reason.MISSING_INPUT, message="no ConfigMap 'repo'")

    made = at(9, seen(admission=other), waiting)

    assert made.status is not None
    assert made.status.reason is Reason.MISSING_INPUT
    assert [one.last_transition_time for one in made.status.conditions] == [one.last_transition_time for one in waiting.status.conditions]


def test_waiting_ends_at_the_pending_deadline_with_what_it_waited_for() -> None:
    made = at(60, seen(admission=NO_MODEL))

    assert made.status is not None
    assert (made.status.phase, made.status.reason) == (Phase.FAILED, Reason.PENDING_DEADLINE_EXCEEDED)
    assert made.status.message == "not started within 60 s; waiting for UnknownModel: no AgentModel 'small'"
    assert conditions(made)["Accepted"] == ("True", "Accepted")


def test_a_task_found_ready_after_its_deadline_is_not_started() -> None:
    waiting = applied(task(), at(3, seen(admission=NO_MODEL)))

    made = at(61, seen(), waiting)

    assert made.actions == ()
    assert made.status is not None
    assert "UnknownModel" in (made.status.message or "")
    assert "too late" in (at(61, seen()).status or AgentTaskStatus()).message  # type: ignore[operator]  # set, or the test fails


def test_a_pod_refused_for_good_fails_the_task() -> None:
    made = at(1, seen(rejection=Rejection(reason=Reason.POD_REJECTED, message="violates PodSecurity")))

    assert made.status is not None
    assert (made.status.reason, conditions(made)["Accepted"]) == (Reason.POD_REJECTED, ("True", "Accepted"))


def test_a_quota_is_waited_for_and_tried_again() -> None:
    quota = Rejection(reason=Reason.UNSCHEDULABLE, message="exceeded quota", passing=True)
    in_line = Waits(reason=Reason.UNSCHEDULABLE, message="exceeded quota", position=3)

    waits, again = at(10, seen(rejection=quota, admission=in_line)), at(20, seen(rejection=quota))

    assert waits.status is not None
    assert (waits.status.phase, waits.status.reason, waits.status.queue_position) == (Phase.QUEUED, Reason.UNSCHEDULABLE, 3)
    assert again == Plan(actions=(CreatePod(),))
    late = at(60, seen(rejection=quota)).status
    assert late is not None
    assert "exceeded quota" in (late.message or "")


def test_a_pod_on_record_that_is_not_there_is_lost_and_not_made_again_at_once() -> None:
    made = at(30, seen(), task(AgentTaskStatus(phase=Phase.RUNNING, pod_name=POD, attempt=1), retry=NO_RESTART))

    assert made.actions == ()
    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.attempt) == (Phase.FAILED, Reason.LOST, 1)
    assert POD in (made.status.message or "")


# ---- the pod is there


def test_a_pod_that_starts_in_time_costs_no_write() -> None:
    assert at(3, seen(pod())) == Plan(requeue_after=1)


def test_a_slow_start_is_told_once() -> None:
    made = at(5, seen(pod()))

    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.pod_name) == (Phase.STARTING, Reason.POD_STARTING, POD)
    assert made.status.device is not None
    assert made.status.device.class_ == "cpu"
    assert at(6, seen(pod()), applied(task(), made)).status is None


@pytest.mark.parametrize(
    ("one", "reason", "words"),
    [
        (pod(unschedulable=NOBODY), Reason.UNSCHEDULABLE, NOBODY),
        (pod(unschedulable=""), Reason.UNSCHEDULABLE, "finds no node"),
        (pod(waiting_reason="ErrImagePull", waiting_message="no such host"), Reason.IMAGE_PULL, "no such host"),
        (pod(waiting_reason="ImagePullBackOff"), Reason.IMAGE_PULL, "ImagePullBackOff"),
        (pod(waiting_reason="CreateContainerConfigError", waiting_message='secret "key" not found'), Reason.MISSING_INPUT, "key"),
        (pod(waiting_reason="CreateContainerConfigError"), Reason.MISSING_INPUT, "missing"),
        (pod(waiting_reason="CreateContainerError", waiting_message="name in use"), Reason.POD_STARTING, "name in use"),
        (pod(waiting_reason="ContainerCreating"), Reason.POD_STARTING, "is starting"),
    ],
)
def test_what_scheduler_and_kubelet_say_is_the_reason(one: SeenPod, reason: Reason, words: str) -> None:
    made = at(5, seen(one))

    assert made.actions == ()
    assert made.status is not None
    assert (made.status.phase, made.status.reason) == (Phase.STARTING, reason)
    assert words in (made.status.message or "")


def test_an_input_that_vanished_is_told_for_the_kubelet() -> None:
    made = at(5, seen(pod(waiting_reason="ContainerCreating"), missing_input="no ConfigMap 'repo' yet"))

    assert made.status is not None
    assert (made.status.reason, made.status.message) == (Reason.MISSING_INPUT, "no ConfigMap 'repo' yet")


@pytest.mark.parametrize(
    "one",
    [
        pod(waiting_reason="InvalidImageName", waiting_message="couldn't parse image name"),
        pod(waiting_reason="ErrImageNeverPull"),
        pod(waiting_reason="RunContainerError", waiting_message='exec: "agenttask-runner": executable file not found in $PATH'),
    ],
    ids=["name", "never", "command"],
)
def test_an_image_that_can_never_run_fails_at_once_and_its_pod_goes(one: SeenPod) -> None:
    made = at(2, seen(one))

    assert made.actions == (DeletePod(name=POD, uid="pod-uid", why="ImageError"),)
    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.pod_name) == (Phase.FAILED, Reason.IMAGE_ERROR, POD)


def test_a_pod_that_waits_too_long_is_deleted_before_the_task_is_final() -> None:
    made = at(60, seen(pod(unschedulable=NOBODY)))

    assert made.actions == (DeletePod(name=POD, uid="pod-uid", why="PendingDeadlineExceeded"),)
    assert made.status is not None
    assert made.status.message == f"not started within 60 s; waiting for Unschedulable: {NOBODY}"


@pytest.mark.parametrize("gone", [False, True], ids=["terminating", "gone"])
def test_a_controller_stopped_between_delete_and_status_gives_the_same_reason(gone: bool) -> None:
    late = pod(unschedulable=NOBODY, deletion=CREATED + 90, phase="Failed" if not gone else "Pending", gone=gone)
    never = pod(waiting_reason="InvalidImageName", deletion=CREATED + 33, gone=True)

    for one, reason in ((late, Reason.PENDING_DEADLINE_EXCEEDED), (never, Reason.IMAGE_ERROR)):
        made = at(95, seen(one))
        assert made.actions == ()
        assert made.status is not None
        assert made.status.reason is reason


def test_a_pod_deleted_by_hand_before_it_started_is_lost() -> None:
    made = at(10, seen(pod(gone=True)), task(retry=NO_RESTART))

    assert made.status is not None
    assert made.status.reason is Reason.LOST


# ---- it runs


def test_running_is_told_when_it_lasts_and_the_kubelet_would_have_told_an_end() -> None:
    early, made = at(5.5, seen(running(3))), at(6, seen(running(3)))

    assert (early.status, early.requeue_after) == (None, 0.5)
    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.progress) == (Phase.RUNNING, Reason.POD_RUNNING, "0/3")
    assert [step.phase for step in made.status.steps] == [StepPhase.PENDING] * 3
    assert conditions(made) == {"Accepted": ("True", "Accepted"), "PodReady": ("True", "PodRunning")}
    assert (made.status.start_time, made.status.node_name) == ("2027-01-15T08:00:03Z", "node-1")
    assert at(6, seen(running(3)), applied(task(), made)) == Plan(requeue_after=97)


def test_a_pod_that_runs_too_long_is_deleted_and_its_end_waited_for() -> None:
    recorded = at(102, seen(running(2)))
    made = at(102, seen(running(2)), applied(task(), recorded))

    # First that it runs, and since when: a controller killed after the DELETE must know.
    assert recorded.status is not None
    assert (recorded.actions, recorded.status.phase) == ((), Phase.RUNNING)
    assert [one.last_transition_time for one in recorded.status.conditions if one.type == "PodReady"] == ["2027-01-15T08:00:02Z"]
    assert made.actions == (DeletePod(name=POD, uid="pod-uid", why="activeDeadlineSeconds"),)
    assert made.status is None
    assert at(103, seen(running(2, deletion=CREATED + 132))).actions == ()


def test_a_lost_nodes_pod_is_not_waited_for_for_ever() -> None:
    by_hand, too_long = running(2, deletion=CREATED + 40), running(2, deletion=CREATED + 132)

    assert at(339, seen(by_hand)) == Plan(requeue_after=1)
    for one, reason in ((by_hand, Reason.LOST), (too_long, Reason.DEADLINE_EXCEEDED), (pod(deletion=CREATED + 40), Reason.LOST)):
        made = at(440, seen(one), task(retry=NO_RESTART))
        assert made.status is not None
        assert (made.status.phase, made.status.reason) == (Phase.FAILED, reason)
        assert "node node-1 has not told its end" in (made.status.message or "")


# ---- it has ended


def test_a_success_has_everything_in_one_status() -> None:
    message = said(
        done=True,
        started=int((CREATED + 2.25) * 1000),
        steps=(StepReport(0, "S", 0, 500), StepReport(1, "S", 500, 250, "note"), StepReport(2, "K")),
        usage=UsageReport(2, 30, 12),
        output="the answer",
    )

    made = at(6, seen(ended(message), models="small, big", trace_id="ab"))

    assert made.status == AgentTaskStatus(
        observed_generation=3,
        phase=Phase.SUCCEEDED,
        reason="Succeeded",
        conditions=made.status.conditions if made.status is not None else (),
        attempt=1,
        ended_attempts=1,
        active_seconds=3,
        pod_name=POD,
        node_name="node-1",
        device=pod().device,
        progress="3/3",
        models="small, big",
        steps=(
            StepStatus(
                name="one", phase=StepPhase.SUCCEEDED, started_at="2027-01-15T08:00:02.250Z", finished_at="2027-01-15T08:00:02.750Z"
            ),
            StepStatus(
                name="two",
                phase=StepPhase.SUCCEEDED,
                started_at="2027-01-15T08:00:02.750Z",
                finished_at="2027-01-15T08:00:03.000Z",
                message="note",
            ),
            StepStatus(name="three", phase=StepPhase.SKIPPED),
        ),
        output="the answer",
        usage=UsageStatus(calls=2, input_tokens=30, output_tokens=12, total_tokens=42),
        trace_id="ab",
        start_time="2027-01-15T08:00:02Z",
        completion_time="2027-01-15T08:00:05Z",
    )
    assert conditions(made) == {"Accepted": ("True", "Accepted"), "PodReady": ("False", "Succeeded"), "Complete": ("True", "Succeeded")}


def test_a_failure_keeps_the_steps_and_no_output() -> None:
    message = said(
        done=True,
        steps=(StepReport(0, "S", 0, 500), StepReport(1, "F", 500, 250, "exit code 3")),
        error=ErrorReport(reason=Reason.STEP_FAILED, message="step 'two': exit code 3", step=1),
        output="not to be shown",
    )

    made = at(6, seen(ended(message, exit_code=1)))

    assert made.status is not None
    assert (made.status.reason, made.status.message, made.status.output) == (Reason.STEP_FAILED, "step 'two': exit code 3", None)
    assert [step.phase for step in made.status.steps] == [StepPhase.SUCCEEDED, StepPhase.FAILED, StepPhase.SKIPPED]
    assert made.status.progress == "1/3"
    assert conditions(made)["Failed"] == ("True", "StepFailed")
    assert "Complete" not in conditions(made)


def test_what_the_pod_told_stays_when_the_pod_is_gone() -> None:
    was = at(5, seen(running(2)))

    made = at(30, seen(), applied(task(), was))

    assert was.status is not None
    assert made.status is not None
    kept = ("pod_name", "node_name", "device", "start_time", "attempt")
    assert [getattr(made.status, name) for name in kept] == [getattr(was.status, name) for name in kept]


def test_a_transition_time_moves_only_when_the_status_of_a_condition_does() -> None:
    first = applied(task(), at(5, seen(running(2))))
    made = at(20, seen(ended()), first)

    assert made.status is not None
    times = {condition.type: condition.last_transition_time for condition in made.status.conditions}
    assert times == {"Accepted": "2027-01-15T08:00:05Z", "PodReady": "2027-01-15T08:00:20Z", "Failed": "2027-01-15T08:00:20Z"}
    assert all(isinstance(condition, Condition) and condition.message for condition in made.status.conditions)
    assert first.uid == UID


def test_a_step_that_ran_when_the_attempt_ended_has_failed() -> None:
    half = said(steps=(StepReport(0, "S", 0, 500), StepReport(1, "R", 500)))

    made = at(6, seen(ended(half, exit_code=3)))

    assert made.status is not None
    assert [(step.phase, step.message) for step in made.status.steps] == [
        (StepPhase.SUCCEEDED, None),
        (StepPhase.FAILED, "it was running when the attempt ended"),
        (StepPhase.SKIPPED, None),
    ]
    assert made.status.steps[1].finished_at == "2027-01-15T08:00:06.000Z"


def test_models_are_named_once_in_the_order_of_the_steps() -> None:
    steps = [
        {"name": "a", "embed": {"model": "embedder", "texts": ["x"]}},
        {"name": "b", "chat": {"model": "small", "prompt": "x"}},
        {"name": "c", "chat": {"model": "small", "prompt": "y"}},
        {"name": "d", "plugin": {"kind": "rank", "with": {"model": "ranker"}}},
        {"name": "e", "plugin": {"kind": "rank", "with": {"model": 7}}},
    ]

    assert models_named(spec(steps=steps)) == ("embedder", "small", "ranker")
