"""A node whose clock is ten minutes off: deadlines, times in status and the time that counts as run stay sensible."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.seen import CREATED, POD, ended, pod, running, said, seen, task

from agenttask.api.reasons import Reason
from agenttask.api.report import StepReport
from agenttask.domain import moment
from agenttask.domain.clocks import on_our_clock
from agenttask.domain.deadlines import ran_seconds
from agenttask.domain.plan import DeletePod, plan

OFF = [pytest.param(-600.0, id="ten minutes behind"), pytest.param(600.0, id="ten minutes ahead")]
NOW = CREATED + 20


def test_a_start_that_can_be_is_left_alone() -> None:
    for one in (running(2.0), running(-3.0), pod(), ended(), running(24.0)):
        assert on_our_clock(one, NOW) is one


@pytest.mark.parametrize("off", OFF)
def test_a_task_of_a_minute_is_not_stopped_for_its_nodes_clock(off: float) -> None:
    made = plan(task(activeDeadlineSeconds=60), seen(on_our_clock(running(2.0 + off), NOW)), NOW)
    assert made.actions == ()
    assert made.status is not None
    assert (made.status.reason, made.status.start_time) == (Reason.POD_RUNNING, moment.render(CREATED + 1))


@pytest.mark.parametrize("off", OFF)
def test_its_deadline_is_held_all_the_same(off: float) -> None:
    late, one = CREATED + 70, task(activeDeadlineSeconds=60)
    found = seen(on_our_clock(running(2.0 + off), late))
    recorded = plan(one, found, late)
    assert recorded.status is not None
    made = plan(msgspec.structs.replace(one, status=recorded.status), found, late)
    assert made.actions == (DeletePod(name=POD, uid="pod-uid", why="activeDeadlineSeconds"),)


@pytest.mark.parametrize("off", OFF)
def test_status_has_its_times_in_order_and_the_seconds_that_it_ran(off: float) -> None:
    message = said(done=True, started=int((CREATED + 2 + off) * 1000), steps=(StepReport(0, "S", 0, 9000),), output="x")
    one = on_our_clock(ended(message, started=2.0 + off, finished=12.0 + off), NOW)
    made = plan(task(), seen(one), NOW)
    status = made.status
    assert status is not None
    times = [moment.parse(text) for text in (status.start_time, status.completion_time)]
    assert (status.reason, status.active_seconds) == (Reason.SUCCEEDED, 10)
    assert times == [CREATED + 1, CREATED + 11]
    first = status.steps[0]
    assert (first.started_at, first.finished_at) == (moment.render_exact(CREATED + 1), moment.render_exact(CREATED + 10))
    assert all(CREATED <= (moment.parse(one.last_transition_time) or 0) <= NOW for one in status.conditions)


@pytest.mark.parametrize("off", OFF)
def test_a_pod_stopped_at_its_deadline_ran_too_long_whatever_its_node_says(off: float) -> None:
    one = ended(started=2.0 + off, finished=64.0 + off, exit_code=137, deletion=CREATED + 94, gone=True)
    late = CREATED + 95
    status = plan(task(activeDeadlineSeconds=60), seen(on_our_clock(one, late)), late).status
    assert status is not None
    assert status.reason == Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("off", OFF)
def test_a_pod_that_waited_before_it_was_stopped_at_its_deadline_has_reached_it_too(off: float) -> None:
    """Its deadline counted from its creation, for want of a better start: what it ran by its own clock is less by what it waited."""
    one = ended(started=32.0 + off, finished=61.0 + off, exit_code=143, deletion=CREATED + 90)
    now = CREATED + 62
    status = plan(task(activeDeadlineSeconds=60), seen(on_our_clock(one, now)), now).status
    assert status is not None
    assert (status.reason, status.active_seconds) == (Reason.DEADLINE_EXCEEDED, 61)


@pytest.mark.parametrize("off", OFF)
def test_a_pod_that_was_deleted_before_its_deadline_is_lost_as_on_any_node(off: float) -> None:
    one = ended(started=32.0 + off, finished=41.0 + off, exit_code=143, deletion=CREATED + 70)
    now = CREATED + 42
    status = plan(task(activeDeadlineSeconds=60), seen(on_our_clock(one, now)), now).status
    assert status is not None
    assert (status.reason, status.infrastructure_restarts) == (Reason.BACKING_OFF, 1)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1e6))
def test_no_clock_makes_a_time_that_cannot_be(start: float, end: float, now: float) -> None:
    one = on_our_clock(ended(started=start, finished=end), CREATED + now)
    status = plan(task(), seen(one), CREATED + now).status
    assert ran_seconds(task(), one, CREATED + now) >= 0
    if status is not None:
        assert status.active_seconds >= 0
        assert (moment.parse(status.completion_time) or 0) <= CREATED + now
