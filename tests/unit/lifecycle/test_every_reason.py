"""No reason stands in the list for show: each one, waiting or terminal, is reached from something that can be seen."""

import msgspec
import pytest
from tests.fakes.seen import CREATED, POD, ended, pod, said, seen, task

from agenttask.api.reasons import TERMINAL_REASONS, WAITING_REASONS, Phase, Reason
from agenttask.api.report import ErrorReport
from agenttask.api.task import AgentTaskStatus
from agenttask.domain.observation import Observation, Refused, Rejection, SeenTask, Waits
from agenttask.domain.plan import plan


def told(reason: Reason) -> Observation:
    """The runner gives this reason in its last report."""
    return seen(ended(said(done=True, error=ErrorReport(reason=reason, message="so it is", step=0)), exit_code=1))


def missing(reason: Reason) -> Observation:
    return seen(admission=Waits(reason=reason, message="not there yet"))


UNREADABLE = msgspec.structs.replace(task(), spec=None, problem="spec.steps: expected an array")

NO_RESTART = {"maxInfrastructureRestarts": 0}

ENDS: dict[Reason, tuple[Observation, SeenTask]] = {
    Reason.SUCCEEDED: (seen(ended(said(done=True, output="yes"))), task()),
    Reason.STEP_FAILED: (told(Reason.STEP_FAILED), task()),
    Reason.INVALID_TEMPLATE: (seen(admission=Refused(reason=Reason.INVALID_TEMPLATE, message="spec.output: odd")), task()),
    Reason.INVALID_TASK: (seen(), UNREADABLE),
    Reason.UNKNOWN_PLUGIN: (seen(admission=Refused(reason=Reason.UNKNOWN_PLUGIN, message="spec.device.strategy: no")), task()),
    Reason.MODEL_UNAVAILABLE: (told(Reason.MODEL_UNAVAILABLE), task()),
    Reason.MODEL_REJECTED: (told(Reason.MODEL_REJECTED), task()),
    Reason.RATE_LIMITED: (told(Reason.RATE_LIMITED), task()),
    Reason.OUT_OF_MEMORY: (seen(ended(exit_code=137, reason="OOMKilled")), task()),
    Reason.DEVICE_UNAVAILABLE: (told(Reason.DEVICE_UNAVAILABLE), task(retry=NO_RESTART)),
    Reason.IMAGE_ERROR: (seen(pod(waiting_reason="InvalidImageName")), task()),
    Reason.POD_REJECTED: (seen(rejection=Rejection(reason=Reason.POD_REJECTED, message="violates PodSecurity")), task()),
    Reason.PENDING_DEADLINE_EXCEEDED: (missing(Reason.UNKNOWN_MODEL), task(pendingDeadlineSeconds=5)),
    Reason.DEADLINE_EXCEEDED: (seen(ended(exit_code=137, finished=8, deletion=CREATED + 38)), task(activeDeadlineSeconds=5)),
    Reason.SOFT_DEADLINE_REACHED: (told(Reason.SOFT_DEADLINE_REACHED), task()),
    Reason.OUTPUT_TOO_LARGE: (told(Reason.OUTPUT_TOO_LARGE), task()),
    Reason.OUTPUT_REJECTED: (told(Reason.OUTPUT_REJECTED), task()),
    Reason.RUNNER_CRASHED: (seen(ended("Traceback", exit_code=1, reason="Error")), task()),
    Reason.LOST: (seen(), task(AgentTaskStatus(phase=Phase.STARTING, pod_name=POD, attempt=1), execution={"atMostOnce": True})),
    Reason.BACKOFF_LIMIT_EXCEEDED: (told(Reason.STEP_FAILED), task(AgentTaskStatus(failures=2), retry={"limit": 2})),
    Reason.INFRASTRUCTURE_LIMIT_EXCEEDED: (seen(ended(exit_code=143)), task(AgentTaskStatus(infrastructure_restarts=10))),
    Reason.CANCELLED_BY_USER: (seen(), task(cancel=True)),
}

WAITS: dict[Reason, Observation] = {
    Reason.UNKNOWN_MODEL: missing(Reason.UNKNOWN_MODEL),
    Reason.UNKNOWN_CLASS: missing(Reason.UNKNOWN_CLASS),
    Reason.MISSING_INPUT: seen(pod(waiting_reason="CreateContainerConfigError")),
    Reason.WAITING_FOR_DEVICE: missing(Reason.WAITING_FOR_DEVICE),
    Reason.UNSCHEDULABLE: seen(pod(unschedulable="0/1 nodes are available")),
    Reason.IMAGE_PULL: seen(pod(waiting_reason="ImagePullBackOff")),
    Reason.UNKNOWN_QUEUE: missing(Reason.UNKNOWN_QUEUE),
    Reason.QUEUE_PAUSED: missing(Reason.QUEUE_PAUSED),
    Reason.QUEUE_FULL: missing(Reason.QUEUE_FULL),
    Reason.MODEL_BREAKER_OPEN: missing(Reason.MODEL_BREAKER_OPEN),
    Reason.MODEL_FULL: missing(Reason.MODEL_FULL),
    Reason.SCHEDULING_GATED: missing(Reason.SCHEDULING_GATED),
}


PHASES = {Reason.SUCCEEDED: Phase.SUCCEEDED, Reason.CANCELLED_BY_USER: Phase.CANCELLED}
OF_THE_PLAN_ITSELF = {Reason.BACKING_OFF, Reason.SUSPENDED}
"""Reached in test_attempts.py; neither ends at the pending deadline."""


@pytest.mark.parametrize("reason", TERMINAL_REASONS)
def test_every_terminal_reason_is_reached(reason: Reason) -> None:
    found, one = ENDS[reason]
    status = plan(one, found, CREATED + 10).status

    assert status is not None
    assert status.phase is PHASES.get(reason, Phase.FAILED)
    assert status.reason is reason
    assert status.completion_time is not None
    assert [one.type for one in status.conditions if one.type in ("Complete", "Failed")] == [
        "Complete" if reason is Reason.SUCCEEDED else "Failed"
    ]


@pytest.mark.parametrize("reason", [reason for reason in WAITING_REASONS if reason not in OF_THE_PLAN_ITSELF])
def test_every_waiting_reason_is_told_and_ends_at_the_pending_deadline(reason: Reason) -> None:
    waits = plan(task(), WAITS[reason], CREATED + 10).status
    late = plan(task(), WAITS[reason], CREATED + 60).status

    assert waits is not None
    assert late is not None
    assert (waits.reason, waits.completion_time) == (reason, None)
    assert waits.phase is (Phase.QUEUED if WAITS[reason].pod is None else Phase.STARTING)
    assert (late.phase, late.reason) == (Phase.FAILED, Reason.PENDING_DEADLINE_EXCEEDED)
    assert f"waiting for {reason}: " in (late.message or "")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_documented_in_a_sentence(reason: Reason) -> None:
    assert len(reason.describe().split()) > 2
    assert reason.describe().endswith(".")


def test_a_report_gives_no_reason_that_only_the_controller_can_know() -> None:
    ours = {
        Reason.SUCCEEDED,
        Reason.PENDING_DEADLINE_EXCEEDED,
        Reason.POD_REJECTED,
        Reason.IMAGE_ERROR,
        Reason.RUNNER_CRASHED,
        Reason.BACKOFF_LIMIT_EXCEEDED,
        Reason.INFRASTRUCTURE_LIMIT_EXCEEDED,
        Reason.CANCELLED_BY_USER,
    }
    given = {reason: plan(task(retry=NO_RESTART), told(reason), CREATED + 10).status for reason in Reason}

    believed = {reason for reason, status in given.items() if status is not None and status.reason is reason}
    assert believed == set(TERMINAL_REASONS) - ours | {Reason.RUNNER_CRASHED}
    assert all(status is not None and status.phase is Phase.FAILED for status in given.values())
