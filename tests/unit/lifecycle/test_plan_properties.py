"""What holds of every plan, whatever is seen: it converges, final is final, and nothing a pod says breaks it."""

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.fakes.seen import CREATED, POD, pod, seen, task

from agenttask.api import report as reports
from agenttask.api.reasons import TERMINAL_REASONS, WAITING_REASONS, Reason
from agenttask.api.report import ErrorReport, Report, StepReport, UsageReport
from agenttask.api.task import AgentTaskStatus, DeviceStatus, TriedClass
from agenttask.domain import moment
from agenttask.domain.observation import Admitted, NextClass, Observation, Refused, Rejection, SeenPod, Terminated, Waits
from agenttask.domain.plan import CreatePod, plan

BIG = 2**53
instants = st.none() | st.integers(-10, 2000).map(lambda seconds: CREATED + seconds)
texts = st.text(max_size=30)
reasons = st.sampled_from(Reason)
steps = st.builds(
    StepReport,
    st.integers(0, 63),
    st.sampled_from("SFRK"),
    st.integers(0, BIG * 100),
    st.integers(0, BIG * 100),
    st.text(max_size=160),
)
documents = st.builds(
    Report,
    attempt=st.integers(0, 2),
    started=st.integers(0, BIG),
    done=st.booleans(),
    steps=st.lists(steps, max_size=6).map(tuple),
    usage=st.builds(UsageReport, st.integers(0, BIG), st.integers(0, BIG), st.integers(0, BIG)),
    error=st.none() | st.builds(ErrorReport, reason=reasons, message=texts),
    output=st.none() | texts,
).map(lambda report: reports.encode(report).decode())
ends = st.none() | st.builds(
    Terminated,
    exit_code=st.sampled_from([0, 1, 128, 137, 143, 255]),
    reason=st.sampled_from(["", "Error", "Completed", "OOMKilled", "StartError", "ContainerStatusUnknown"]),
    message=texts | documents,
    started=instants,
    finished=instants,
)


@st.composite
def pods(draw: Any) -> SeenPod:
    waits = ["", "ContainerCreating", "ErrImagePull", "InvalidImageName", "RunContainerError", "CreateContainerConfigError", "New"]
    return pod(
        created=draw(instants),
        phase=draw(st.sampled_from(["", "Pending", "Running", "Succeeded", "Failed", "Unknown"])),
        reason=draw(st.sampled_from(["", "Evicted", "DeadlineExceeded", "OutOfcpu"])),
        deletion=draw(instants),
        deleted=draw(instants),
        disrupted=draw(st.booleans()),
        unschedulable=draw(st.none() | texts),
        waiting_reason=draw(st.sampled_from(waits)),
        waiting_message=draw(texts | st.just("executable file not found")),
        running_since=draw(instants),
        terminated=draw(ends),
        gone=draw(st.booleans()),
    )


admissions = st.one_of(
    st.just(Admitted()),
    st.builds(Refused, reason=st.sampled_from(TERMINAL_REASONS[1:]), message=texts, accepted=st.booleans()),
    st.builds(Waits, reason=st.sampled_from(WAITING_REASONS), message=texts),
)
rejections = st.one_of(
    st.none(),
    st.builds(Rejection, reason=st.just(Reason.POD_REJECTED), message=texts),
    st.builds(Rejection, reason=st.just(Reason.UNSCHEDULABLE), message=texts, passing=st.just(True)),
)
observations = st.builds(
    lambda one, admission, rejection, refused, missing, other: seen(
        one,
        admission=admission,
        rejection=rejection,
        never_made=refused and rejection is not None and one is None,
        missing_input=missing,
        next_class=other,
    ),
    st.none() | pods(),
    admissions,
    rejections,
    st.booleans(),
    st.none() | texts,
    st.none() | st.builds(NextClass, class_=st.just("other"), anew=st.booleans()),
)
GIVEN_UP = DeviceStatus(class_="gpu", tried=(TriedClass(class_="gpu", attempt=1, verdict="no node"),))
before = st.just(AgentTaskStatus()) | st.builds(
    AgentTaskStatus,
    pod_name=st.none() | st.just(POD),
    attempt=st.integers(0, 1),
    reason=st.none() | reasons.map(str) | texts,
    failures=st.integers(0, 3),
    infrastructure_restarts=st.integers(0, 3),
    active_seconds=st.integers(0, 150),
    device=st.sampled_from([None, DeviceStatus(class_="gpu"), GIVEN_UP]),
    next_attempt_time=st.none() | st.just(moment.render(CREATED + 50)),
)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "suspend": st.booleans(),
        "cancel": st.booleans(),
        "retry": st.fixed_dictionaries({"limit": st.integers(0, 3), "maxInfrastructureRestarts": st.integers(0, 3)}),
        "execution": st.fixed_dictionaries({"atMostOnce": st.booleans()}),
    },
)


@given(observations, before, wishes, st.floats(0, 3000))
@settings(max_examples=150, deadline=None)
def test_a_plan_applied_leaves_nothing_to_write(found: Observation, status: AgentTaskStatus, wished: dict[str, Any], later: float) -> None:
    assume(not (found.never_made and status.device == GIVEN_UP))  # a class is given up for a pod that was there
    now = CREATED + later
    one = task(status, **wished)
    made = plan(one, found, now)
    if made.status is None:
        return
    after = msgspec.structs.replace(one, status=made.status)

    assert plan(after, found, now).status is None
    assert plan(one, found, now) == made


@given(observations, st.lists(st.tuples(observations, st.floats(0, 3000)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_final_task_never_changes(first: Observation, rest: list[tuple[Observation, float]]) -> None:
    one = task()
    for found, later in [(first, 1000.0), *rest]:
        made = plan(one, found, CREATED + later)
        if one.status.phase is not None and one.status.phase.terminal:
            assert (made.actions, made.status, made.requeue_after) == ((), None, None)
        elif made.status is not None:
            one = msgspec.structs.replace(one, status=made.status)


@given(observations, before, wishes, st.floats(0, 3000))
@settings(max_examples=150, deadline=None)
def test_what_is_written_fits_the_crd(found: Observation, status: AgentTaskStatus, wished: dict[str, Any], later: float) -> None:
    made = plan(task(status, **wished), found, CREATED + later)
    if made.requeue_after is not None:
        assert 0 < made.requeue_after <= 600
    if made.status is None:
        assert made.actions or made.requeue_after is not None
        return
    written = made.status
    terminal = written.phase is not None and written.phase.terminal
    on_the_way = {*WAITING_REASONS, Reason.POD_STARTING, Reason.POD_RUNNING, Reason.RESUMED, Reason.FALLING_BACK}
    assert written.reason in (TERMINAL_REASONS if terminal else on_the_way)
    assert all(one.reason and len(one.message) <= 1024 for one in written.conditions)
    assert len({one.type for one in written.conditions}) == len(written.conditions)
    assert len(written.message or "") <= 1024
    assert len(written.output or "") <= 4096
    for step in written.steps:
        began, end = moment.parse(step.started_at), moment.parse(step.finished_at)
        assert began is None or end is None or began <= end
    usage = written.usage
    assert usage is None or usage.total_tokens <= 2**63 - 1
    msgspec.json.encode(written)


@given(observations, before, wishes, st.floats(0, 3000))
@settings(max_examples=150, deadline=None)
def test_a_pod_is_made_only_where_none_is_on_record(
    found: Observation, status: AgentTaskStatus, wished: dict[str, Any], later: float
) -> None:
    made = plan(task(status, **wished), found, CREATED + later)
    assert len(made.actions) <= 1
    if any(isinstance(action, CreatePod) for action in made.actions):
        assert found.pod is None
        assert not (status.pod_name and status.attempt == 1) or found.rejection is not None
        assert not wished.get("cancel")
        assert not wished.get("suspend")
        assert made.status is None
        assert later < 110


@given(observations, before, wishes, st.floats(0, 3000))
@settings(max_examples=150, deadline=None)
def test_an_attempt_that_never_had_a_pod_is_neither_on_record_nor_counted(
    found: Observation, status: AgentTaskStatus, wished: dict[str, Any], later: float
) -> None:
    made = plan(task(status, **wished), found, CREATED + later)
    if made.status is not None and found.never_made:
        assert made.status.attempt == made.status.ended_attempts == status.ended_attempts
        assert status.attempt != 1 or made.status.pod_name is None


@given(observations, before, wishes, st.floats(0, 3000))
@settings(max_examples=150, deadline=None)
def test_an_attempt_ends_once_and_counts_once(found: Observation, status: AgentTaskStatus, wished: dict[str, Any], later: float) -> None:
    made = plan(task(status, **wished), found, CREATED + later)
    if made.status is None:
        return
    new = made.status
    assert new.ended_attempts - status.ended_attempts in (0, 1)
    counted = new.failures - status.failures + new.infrastructure_restarts - status.infrastructure_restarts
    assert 0 <= counted <= new.ended_attempts - status.ended_attempts
    assert new.active_seconds >= status.active_seconds
    if new.ended_attempts > status.ended_attempts and found.pod is not None:
        assert found.pod.finished or found.pod.deletion is not None
