"""Every way in which a pod can end, and the one reason that status shows for it."""

import pytest
from tests.fakes.seen import CREATED, ended, pod, said

from agenttask.api.reasons import TERMINAL_REASONS, Reason
from agenttask.api.report import ErrorReport, StepReport
from agenttask.domain import outcome
from agenttask.domain.observation import SeenPod

DONE = said(done=True, output="yes")
HALF = said(steps=(StepReport(0, "S"), StepReport(1, "R")))
DEADLINE = CREATED + 102


def failed(reason: Reason, message: str = "so it is") -> str:
    return said(done=True, error=ErrorReport(reason=reason, message=message, step=1))


STOPPED = failed(Reason.LOST, "the runner was asked to stop")
NO_COMMAND = 'exec: "agenttask-runner": executable file not found in $PATH: unknown'

CASES: dict[str, tuple[SeenPod, Reason, str]] = {
    "done": (ended(DONE), Reason.SUCCEEDED, ""),
    "done, then a crash at the very end": (ended(DONE, exit_code=1, reason="Error"), Reason.SUCCEEDED, ""),
    "done, it says, and killed": (ended(DONE, exit_code=137, reason="OOMKilled"), Reason.OUT_OF_MEMORY, "killed for its memory"),
    "done although it was being deleted": (ended(DONE, deletion=CREATED + 9), Reason.SUCCEEDED, ""),
    "done, and gone since": (ended(DONE, gone=True), Reason.SUCCEEDED, ""),
    "a step failed": (ended(failed(Reason.STEP_FAILED), exit_code=1), Reason.STEP_FAILED, "so it is"),
    "its soft deadline passed": (ended(failed(Reason.SOFT_DEADLINE_REACHED), exit_code=1), Reason.SOFT_DEADLINE_REACHED, "so it is"),
    "its soft deadline passed, and then the other": (
        ended(failed(Reason.SOFT_DEADLINE_REACHED), exit_code=1, reason="Error", finished=200.0, deletion=CREATED + 150),
        Reason.SOFT_DEADLINE_REACHED,
        "so it is",
    ),
    "a model refused": (ended(failed(Reason.MODEL_REJECTED), exit_code=1), Reason.MODEL_REJECTED, "so it is"),
    "a report with a reason that is not the runner's to give": (
        ended(failed(Reason.POD_REJECTED), exit_code=1),
        Reason.RUNNER_CRASHED,
        "so it is",
    ),
    "a report that claims a waiting reason": (ended(failed(Reason.UNSCHEDULABLE), exit_code=1), Reason.RUNNER_CRASHED, "so it is"),
    "a report of another attempt": (ended(said(done=True, attempt=2)), Reason.RUNNER_CRASHED, "exit code 0"),
    "no report": (ended(exit_code=3, reason="Error"), Reason.RUNNER_CRASHED, "exit code 3"),
    "garbage for a report": (ended("Traceback: boom", exit_code=1), Reason.RUNNER_CRASHED, "exit code 1"),
    "half a report": (ended(HALF, exit_code=139, reason="Error"), Reason.RUNNER_CRASHED, "signal 11"),
    "out of memory": (ended(HALF, exit_code=137, reason="OOMKilled"), Reason.OUT_OF_MEMORY, "pod.resources.limits.memory"),
    "killed": (ended(exit_code=137, reason="Error"), Reason.OUT_OF_MEMORY, "SIGKILL"),
    "killed because it was deleted": (ended(HALF, exit_code=137, deletion=CREATED + 5), Reason.LOST, "was deleted"),
    "stopped because it was deleted": (ended(STOPPED, exit_code=1, deletion=CREATED + 5), Reason.LOST, "asked to stop"),
    "deleted, nobody saw its end": (pod(phase="Running", running_since=CREATED + 2, gone=True), Reason.LOST, "was deleted"),
    "evicted": (pod(phase="Failed", reason="Evicted", message="low on memory"), Reason.LOST, "low on memory"),
    "preempted": (ended(exit_code=137, disrupted=True, deletion=CREATED + 5), Reason.LOST, "taken away"),
    "unknown to its node": (ended(exit_code=137, reason="ContainerStatusUnknown"), Reason.LOST, "taken away"),
    "image without the command": (
        ended(NO_COMMAND, exit_code=128, reason="StartError", started=None),
        Reason.IMAGE_ERROR,
        "lacks the command `agenttask-runner`",
    ),
    "runtime cannot start it": (
        ended("cgroups: odd", exit_code=128, reason="StartError", started=None),
        Reason.IMAGE_ERROR,
        "cgroups: odd",
    ),
    "too little memory to start": (
        ended("container init was OOM-killed", exit_code=128, reason="StartError", started=None),
        Reason.OUT_OF_MEMORY,
        "too low",
    ),
    "refused by the kubelet": (
        pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
        Reason.POD_REJECTED,
        "node node-1 refused the pod: OutOfcpu: Node didn't have enough",
    ),
    "refused by the kubelet for a device": (
        pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to no healthy devices", has_devices=True),
        Reason.DEVICE_UNAVAILABLE,
        "node node-1 refused the pod: UnexpectedAdmissionError: Allocate failed",
    ),
    "refused by the kubelet for too few devices": (
        pod(phase="Failed", reason="OutOfnvidia.com/gpu", message="Node didn't have enough resource", has_devices=True),
        Reason.DEVICE_UNAVAILABLE,
        "OutOfnvidia.com/gpu",
    ),
    "refused by the kubelet for a processor although it has a device": (
        pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu", has_devices=True),
        Reason.POD_REJECTED,
        "OutOfcpu",
    ),
    "refused by the kubelet, and it has no device": (
        pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to not enough cpus"),
        Reason.POD_REJECTED,
        "not enough cpus",
    ),
    "ended without a container status": (pod(phase="Succeeded"), Reason.RUNNER_CRASHED, "without a report"),
}


@pytest.mark.parametrize(("one", "reason", "message"), CASES.values(), ids=CASES)
def test_a_pods_end_is_one_reason(one: SeenPod, reason: Reason, message: str) -> None:
    found = outcome.of(one, deadline=DEADLINE, seconds=100)

    assert found.reason is reason
    assert message in found.message
    assert found.reason in TERMINAL_REASONS


@pytest.mark.parametrize("word", [HALF, STOPPED, ""], ids=["killed", "stopped", "silent"])
def test_a_pod_deleted_at_its_deadline_ran_too_long(word: str) -> None:
    found = outcome.of(ended(word, exit_code=137, finished=110, deletion=CREATED + 132), deadline=DEADLINE, seconds=100)

    assert found.reason is Reason.DEADLINE_EXCEEDED
    assert "activeDeadlineSeconds (100 s)" in found.message
    assert found.message.endswith("last word: the runner was asked to stop" if word == STOPPED else "give the task less to do")


@pytest.mark.parametrize("deleted", [DEADLINE - 2, DEADLINE, DEADLINE + 60])
@pytest.mark.parametrize("finished", [97, 101, 102])
@pytest.mark.parametrize("word", [HALF, STOPPED, ""], ids=["killed", "stopped", "silent"])
def test_whether_it_was_deleted_at_its_deadline_is_told_by_the_deletion_and_not_by_its_nodes_clock(
    word: str, finished: float, deleted: float
) -> None:
    one = ended(word, exit_code=143, finished=finished, deletion=deleted + 30, deleted=deleted)

    assert outcome.of(one, deadline=DEADLINE, seconds=100).reason is Reason.DEADLINE_EXCEEDED


def test_one_that_somebody_deleted_before_its_deadline_is_lost_though_its_grace_ends_after_it() -> None:
    one = ended(STOPPED, exit_code=143, finished=98, deletion=DEADLINE + 27, deleted=DEADLINE - 3)

    assert outcome.of(one, deadline=DEADLINE, seconds=100).reason is Reason.LOST


def test_what_failed_by_itself_at_the_deadline_keeps_its_own_reason() -> None:
    one = ended(failed(Reason.MODEL_UNAVAILABLE), exit_code=1, finished=110, deletion=CREATED + 132)

    assert outcome.of(one, deadline=DEADLINE, seconds=100).reason is Reason.MODEL_UNAVAILABLE


def test_the_kubelets_own_deadline_counts() -> None:
    late = pod(phase="Failed", reason="DeadlineExceeded", terminated=ended(exit_code=137).terminated)

    assert outcome.of(late, deadline=None, seconds=100).reason is Reason.DEADLINE_EXCEEDED


def test_a_crash_after_the_deadline_that_nobody_asked_for_is_a_crash() -> None:
    assert outcome.of(ended(exit_code=3, finished=110), deadline=DEADLINE, seconds=100).reason is Reason.RUNNER_CRASHED
