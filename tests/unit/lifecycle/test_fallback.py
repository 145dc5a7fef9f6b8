"""A device class is given up: written first, then the pod goes, then the next attempt gets another class, and no limit counts it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.seen import CREATED, POD, ended, pod, running, said, seen, task

from agenttask.api.reasons import Phase, Reason
from agenttask.api.report import ErrorReport
from agenttask.api.task import AgentTaskStatus, DeviceStatus, TriedClass, Verdict
from agenttask.domain import fallback
from agenttask.domain.observation import NextClass, Observation, SeenPod, SeenTask, Terminated, Waits
from agenttask.domain.plan import CreatePod, DeletePod, Plan, plan

NOBODY = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
GPU = DeviceStatus(class_="gpu", reason="gpu: 1 of 1 free", considered=(Verdict(class_="gpu", verdict="1 of 1 free"),))
CPU = NextClass(class_="cpu")


def stuck(since: float = 2.0, **fields: object) -> SeenPod:
    """A pod of class gpu that finds no node."""
    return pod(**({"unschedulable": NOBODY, "unschedulable_since": CREATED + since, "device": GPU, "node": ""} | fields))


def at(seconds: float, found: Observation, one: SeenTask) -> Plan:
    return plan(one, found, CREATED + seconds)


def wishing(status: AgentTaskStatus | None = None, **fields: object) -> SeenTask:
    return task(status, device={"classes": ["gpu", "cpu"], "fallbackAfterSeconds": 10}, **fields)


def with_status(one: SeenTask, made: Plan) -> SeenTask:
    assert made.status is not None
    return msgspec.structs.replace(one, status=made.status)


def given_up(attempt: int = 1, *, rounds: int = 0) -> AgentTaskStatus:
    device = msgspec.structs.replace(GPU, tried=(TriedClass(class_="gpu", attempt=attempt, verdict="no node"),), rounds=rounds)
    return AgentTaskStatus(phase=Phase.STARTING, attempt=attempt, ended_attempts=attempt - 1, pod_name=POD, device=device)


# ---- no node


def test_a_pod_without_a_node_keeps_its_class_for_as_long_as_the_task_says() -> None:
    made = at(11, seen(stuck(), next_class=CPU), wishing())

    assert made.actions == ()
    assert made.status is not None
    assert (made.status.reason, made.status.device) == (Reason.UNSCHEDULABLE, GPU)
    assert made.requeue_after == 1


def test_then_status_gives_the_class_up_before_anything_is_deleted() -> None:
    made = at(12, seen(stuck(), next_class=CPU), wishing())

    assert made.actions == ()
    assert made.status is not None
    assert made.status.device == msgspec.structs.replace(
        GPU, tried=(TriedClass(class_="gpu", attempt=1, verdict=f"unschedulable for 10 s: {NOBODY}"),)
    )
    assert (made.status.phase, made.status.reason, made.status.ended_attempts) == (Phase.STARTING, Reason.UNSCHEDULABLE, 0)
    assert made.requeue_after is not None
    assert made.requeue_after < 1


def test_then_the_pod_is_deleted_and_its_end_counts_for_no_limit() -> None:
    one = with_status(wishing(), at(12, seen(stuck(), next_class=CPU), wishing()))

    deleting = at(12, seen(stuck(), next_class=CPU), one)
    leaving = at(12.5, seen(stuck(deletion=CREATED + 13)), one)
    gone = at(13, seen(stuck(gone=True)), one)

    assert deleting.actions == (DeletePod(name=POD, uid="pod-uid", why="device.fallbackAfterSeconds"),)
    assert deleting.status is None
    assert (leaving.actions, leaving.status) == ((), None)
    assert gone.status is not None
    assert (gone.status.phase, gone.status.reason, gone.status.ended_attempts) == (Phase.QUEUED, Reason.FALLING_BACK, 1)
    assert (gone.status.failures, gone.status.infrastructure_restarts, gone.status.next_attempt_time) == (0, 0, None)
    assert gone.status.message == f"attempt 1 gave class gpu up: unschedulable for 10 s: {NOBODY}; the next one gets another"


def test_the_next_attempt_starts_at_once_and_status_keeps_what_was_given_up() -> None:
    one = with_status(wishing(), at(13, seen(stuck(gone=True)), wishing(given_up())))

    assert at(13, seen(attempt=2), one).actions == (CreatePod(attempt=2),)
    done = at(20, seen(ended(said(done=True, output="x", attempt=2), attempt=2), attempt=2), one).status
    assert done is not None
    assert (done.phase, done.device) == (
        Phase.SUCCEEDED,
        DeviceStatus(class_="cpu", reason="cpu: needs no device", tried=(TriedClass(class_="gpu", attempt=1, verdict="no node"),)),
    )


@pytest.mark.parametrize("at_most_once", [False, True])
def test_a_controller_that_was_stopped_in_between_reads_on_in_status(at_most_once: bool) -> None:
    """The pod is gone and nobody saw it go: without the note in status this were Lost."""
    one = wishing(given_up(), execution={"atMostOnce": at_most_once})

    made = at(30, seen(), one)

    assert made.actions == ()
    assert made.status is not None
    assert (made.status.reason, made.status.ended_attempts, made.status.infrastructure_restarts) == (Reason.FALLING_BACK, 1, 0)


def test_without_another_class_the_pod_stays_and_is_looked_at_again() -> None:
    made = at(40, seen(stuck()), wishing())

    assert made.actions == ()
    assert made.status is not None
    assert (made.status.reason, made.status.device) == (Reason.UNSCHEDULABLE, GPU)
    assert made.requeue_after == 10


def test_the_pending_deadline_comes_first() -> None:
    made = at(60, seen(stuck(), next_class=CPU), wishing())

    assert made.status is not None
    assert made.status.reason is Reason.PENDING_DEADLINE_EXCEEDED


def test_a_pod_that_found_a_node_after_all_keeps_it() -> None:
    """The scheduler may be faster than the DELETE; once there is a node, nothing is deleted."""
    one = wishing(given_up())

    assert at(13, seen(pod(device=GPU)), one).actions == ()
    made = at(20, seen(running(device=GPU)), one)
    assert made.actions == ()
    failed = at(30, seen(ended(exit_code=143, device=GPU)), one).status
    assert failed is not None
    assert (failed.infrastructure_restarts, failed.device) == (1, GPU)


def test_a_device_that_its_node_does_not_give_sends_the_task_to_the_next_class_and_counts_nowhere() -> None:
    """A device plugin that fails, or has no healthy device left: the kubelet refuses the pod, and would refuse the next one."""
    refused = pod(phase="Failed", reason="UnexpectedAdmissionError", message="no healthy devices", has_devices=True, device=GPU)
    assert fallback.asks_for_another(refused)

    moved, stays = at(5, seen(refused, next_class=CPU), wishing()).status, at(5, seen(refused), wishing()).status

    assert moved is not None
    assert stays is not None
    assert (moved.reason, moved.infrastructure_restarts, moved.next_attempt_time) == (Reason.FALLING_BACK, 0, None)
    assert moved.device is not None
    assert moved.device.tried[0].verdict == "node node-1 refused the pod: UnexpectedAdmissionError: no healthy devices"
    assert (stays.reason, stays.infrastructure_restarts) == (Reason.BACKING_OFF, 1)


# ---- a node that does not prepare the device


UNPREPARED = "NodePrepareResources: the driver is not there"


def unprepared(since: float = 2.0, **fields: object) -> SeenPod:
    """A pod of class gpu on a node whose driver prepares nothing."""
    return pod(**({"unprepared": UNPREPARED, "unprepared_since": CREATED + since, "device": GPU} | fields))


def test_a_node_that_does_not_prepare_the_device_is_told_and_then_the_class_is_given_up() -> None:
    waits = at(11, seen(unprepared(), next_class=CPU), wishing())
    gives = at(12, seen(unprepared(), next_class=CPU), wishing())

    assert waits.status is not None
    assert (waits.status.phase, waits.status.reason) == (Phase.STARTING, Reason.WAITING_FOR_DEVICE)
    assert waits.status.message == f"node node-1 does not prepare the pod's device: {UNPREPARED}"
    assert (waits.actions, waits.requeue_after) == ((), 1)
    assert gives.status is not None
    assert gives.status.device is not None
    verdict = f"device not prepared by node node-1 for 10 s: {UNPREPARED}"
    assert gives.status.device.tried == (TriedClass(class_="gpu", attempt=1, verdict=verdict),)
    deleting = at(12, seen(unprepared(), next_class=CPU), with_status(wishing(), gives))
    assert deleting.actions == (DeletePod(name=POD, uid="pod-uid", why="device.fallbackAfterSeconds"),)


def test_a_pod_that_only_a_driver_could_end_is_not_waited_for_beyond_its_grace() -> None:
    """The kubelet takes devices back before it ends a pod, by the driver that is not there; it may stay for ever."""
    leaving = seen(unprepared(deletion=CREATED + 50))
    for one, reason in ((wishing(given_up()), Reason.FALLING_BACK), (wishing(given_up(), cancel=True), Reason.CANCELLED_BY_USER)):
        assert at(49, leaving, one) == Plan(requeue_after=1)
        status = at(50, leaving, one).status
        assert status is not None
        assert (status.reason, status.ended_attempts, status.infrastructure_restarts) == (reason, 1, 0)

    assert at(50, leaving, wishing(given_up(), execution={"atMostOnce": True})).requeue_after == 300  # it might begin after all
    assert at(50, seen(pod(device=GPU, deletion=CREATED + 50)), wishing(given_up())).requeue_after == 300
    lost = seen(unprepared(deletion=CREATED + 50, disrupted=True))  # and may have begun before its node's words were cut off
    assert at(50, lost, wishing(given_up())) == Plan(requeue_after=300)


def test_a_pod_that_is_stopped_before_its_node_was_asked_is_looked_at_again_when_its_grace_is_over() -> None:
    silent = seen(pod(unprepared_since=CREATED + 2, device=GPU, deletion=CREATED + 43))

    assert at(3, silent, wishing(cancel=True)) == Plan(requeue_after=40)
    assert at(43, silent, wishing(cancel=True)) == Plan(requeue_after=300)
    assert at(3, seen(pod(device=GPU, deletion=CREATED + 43)), wishing(cancel=True)) == Plan(requeue_after=340)


@pytest.mark.parametrize("unknown", [True, False], ids=["never found", "no word"])
@pytest.mark.parametrize("at_most_once", [True, False], ids=["at most once", "at least once"])
def test_the_end_of_a_pod_whose_device_was_not_prepared_counts_nowhere(at_most_once: bool, unknown: bool) -> None:
    """The kubelet says of a container that never was that it cannot find it."""
    end = Terminated(exit_code=137, reason="ContainerStatusUnknown") if unknown else None
    one = wishing(given_up(), execution={"atMostOnce": at_most_once})

    status = at(13, seen(pod(device=GPU, phase="Failed", deletion=CREATED + 12, terminated=end)), one).status

    assert status is not None
    assert (status.reason, status.ended_attempts, status.infrastructure_restarts) == (Reason.FALLING_BACK, 1, 0)


def test_a_pod_that_was_given_up_on_a_node_and_vanished_unseen_is_never_run_twice_at_most_once() -> None:
    """Its device may have been prepared between our look and the DELETE."""
    on_node = msgspec.structs.replace(given_up(), node_name="node-1")
    once = wishing(on_node, execution={"atMostOnce": True})

    for found in (seen(), seen(pod(device=GPU, gone=True))):
        status, again = at(30, found, once).status, at(30, found, wishing(on_node)).status
        assert status is not None
        assert again is not None
        assert (status.phase, status.reason, again.reason) == (Phase.FAILED, Reason.LOST, Reason.FALLING_BACK)


def test_a_pod_whose_device_is_prepared_after_all_keeps_it() -> None:
    ready = pod(device=GPU)
    assert at(13, seen(ready), wishing(given_up())).actions == ()
    assert not fallback.asks_for_another(ready)


def test_a_node_is_asked_once_it_took_longer_than_usual_and_then_seldom() -> None:
    """Nothing else wakes the task: an event is no change of its pod."""
    silent = pod(unprepared_since=CREATED + 4.5, device=GPU)

    assert fallback.asks_node_from(silent) == CREATED + 6.5
    assert at(4, seen(silent), wishing()).requeue_after == 2.5
    assert at(7, seen(silent), wishing()).requeue_after == 10
    assert at(7, seen(pod(device=GPU)), wishing()).requeue_after == 53  # pendingDeadlineSeconds
    told = at(7, seen(silent), wishing()).status
    assert told is not None
    assert told.reason is Reason.POD_STARTING


def test_a_node_that_has_said_nothing_yet_is_asked_again_before_its_class_is_given_up() -> None:
    """A slow one says it late; how long the task has patience counts once it has said it."""
    silent, patient = pod(unprepared_since=CREATED + 4.5, device=GPU), task(device={"classes": ["gpu", "cpu"], "fallbackAfterSeconds": 30})
    refusing = pod(unprepared_since=CREATED + 4.5, unprepared="refused", device=GPU)

    assert [at(now, seen(silent), patient).requeue_after for now in (7, 17, 27)] == [10, 10.5, 20.5]
    assert at(27, seen(silent), wishing()).requeue_after == 10  # where its patience is over sooner
    assert at(17, seen(refusing, next_class=CPU), patient).requeue_after == 17.5
    assert at(7, seen(refusing), patient).requeue_after == 30


# ---- whoever stops the task


@pytest.mark.parametrize(("field", "reason"), [("cancel", Reason.CANCELLED_BY_USER), ("suspend", Reason.SUSPENDED)])
def test_a_task_that_is_stopped_falls_nowhere(field: str, reason: Reason) -> None:
    one = wishing(**{field: True})

    assert at(40, seen(stuck(), next_class=CPU), one).actions == (DeletePod(name=POD, uid="pod-uid", why=f"spec.{field}"),)
    made = at(41, seen(stuck(gone=True)), one)
    assert made.status is not None
    assert made.status.reason is reason


def test_a_gated_pod_is_not_unschedulable() -> None:
    assert at(40, seen(pod(device=GPU, node=""), next_class=None), wishing()).actions == ()
    assert not fallback.asks_for_another(pod(device=GPU, node=""))


# ---- all classes were tried


def test_when_all_were_tried_the_round_begins_anew_with_twice_the_patience() -> None:
    anew = NextClass(class_="cpu", anew=True)

    made = at(12, seen(stuck(), next_class=anew), wishing())
    assert made.status is not None
    assert made.status.device is not None
    assert ([one.class_ for one in made.status.device.tried], made.status.device.rounds) == (["gpu"], 1)
    second = given_up(rounds=1)
    waits = at(21, seen(stuck(attempt=2), attempt=2, next_class=CPU), wishing(msgspec.structs.replace(second, ended_attempts=1)))
    gives = at(22, seen(stuck(attempt=2), attempt=2, next_class=CPU), wishing(msgspec.structs.replace(second, ended_attempts=1)))
    assert (waits.actions, waits.requeue_after) == ((), 1)
    assert gives.status is not None
    assert gives.status.device is not None
    assert [one.attempt for one in gives.status.device.tried] == [2]


@given(st.integers(0, 10**6), st.integers(1, 604800))
def test_patience_grows_and_ends_growing(rounds: int, seconds: int) -> None:
    one = task(given_up(rounds=rounds), device={"fallbackAfterSeconds": seconds})
    due = fallback.due(one, one.spec, seen(stuck(0), next_class=CPU), stuck(0))  # type: ignore[arg-type]  # it has one
    assert due is not None
    assert seconds <= due - CREATED <= 64 * seconds


# ---- the device failed in the pod


def broken(**fields: object) -> SeenPod:
    message = said(done=True, error=ErrorReport(reason=Reason.DEVICE_UNAVAILABLE, message="no CUDA device", step=0))
    return ended(message, exit_code=1, device=GPU, **fields)


def test_a_device_that_failed_in_the_pod_sends_the_task_to_the_next_class_and_counts_nowhere() -> None:
    made = at(6, seen(broken(), next_class=CPU), wishing(retry={"maxInfrastructureRestarts": 0}))

    assert made.status is not None
    status = made.status
    assert (status.phase, status.reason, status.ended_attempts) == (Phase.QUEUED, Reason.FALLING_BACK, 1)
    assert (status.failures, status.infrastructure_restarts, status.active_seconds) == (0, 0, 3)
    assert status.device == msgspec.structs.replace(
        GPU, tried=(TriedClass(class_="gpu", attempt=1, verdict="failed in the pod: no CUDA device"),)
    )


def test_the_pending_deadline_of_what_follows_counts_from_then_on() -> None:
    one = with_status(wishing(), at(90, seen(broken(), next_class=CPU), wishing()))

    assert at(95, seen(attempt=2), one).actions == (CreatePod(attempt=2),)


def test_without_another_class_it_is_the_clusters_failure() -> None:
    made = at(6, seen(broken()), wishing())

    assert made.status is not None
    assert (made.status.reason, made.status.infrastructure_restarts) == (Reason.BACKING_OFF, 1)


def test_when_all_were_tried_it_is_the_clusters_failure_and_the_round_begins_anew() -> None:
    made = at(6, seen(broken(), next_class=NextClass(class_="cpu", anew=True)), wishing())

    assert made.status is not None
    assert (made.status.reason, made.status.infrastructure_restarts) == (Reason.BACKING_OFF, 1)
    assert made.status.device is not None
    assert ([one.class_ for one in made.status.device.tried], made.status.device.rounds) == (["gpu"], 1)


def test_a_task_out_of_time_goes_nowhere() -> None:
    made = at(200, seen(broken(finished=150), next_class=CPU), wishing())

    assert made.status is not None
    assert made.status.reason is Reason.DEADLINE_EXCEEDED


def test_a_task_waits_for_its_turn_on_the_next_class_as_any_other() -> None:
    one = with_status(wishing(), at(13, seen(stuck(gone=True)), wishing(given_up())))
    full = Waits(reason=Reason.QUEUE_FULL, message="2 of 2 on cpu")

    assert at(13, seen(attempt=2, admission=full), one).actions == ()
