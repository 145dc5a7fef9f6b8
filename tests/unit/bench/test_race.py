"""A run out of moments, and what makes it void."""

import json

import pytest
from bench.control import objects
from bench.control.observer import Metadata, Object, Observer, Owner, Status
from bench.control.race import Load, faults, measured, per_task

LOAD = Load(count=2)
SENT = {"run-0": 10.0, "run-1": 11.0}


def observer(*, pods: int = 1, failed: bool = False) -> Observer:
    """What a watch saw of two tasks and of one from before."""
    seen = Observer()
    for name, moment in (("warm-0", 5.0), *SENT.items()):
        for number in range(pods if name in SENT else 1):
            seen.on_pod("ADDED", Object(Metadata(f"{name}-pod", f"{name}-{number}", [Owner(name)])))
        seen.pod_seen[name], seen.pod_ended[name], seen.completed[name] = moment + 0.5, moment + 1.0, moment + 1.25
    if failed:
        seen.on_owner("MODIFIED", Object(Metadata("run-1", "u"), Status(phase="Failed")))
    return seen


def test_rates_count_from_the_first_that_was_sent_to_the_last_that_came() -> None:
    run = measured("agenttask", LOAD, SENT, observer())
    assert (run.pods, run.completed) == (2, 2)
    assert run.pods_rate == pytest.approx(2 / 1.5)
    assert run.complete_rate == pytest.approx(2 / 2.25)
    assert run.create_rate == pytest.approx(2.0)


def test_latencies_are_milliseconds_of_each_task() -> None:
    run = measured("agenttask", LOAD, SENT, observer())
    assert run.apply_to_pod == pytest.approx((500, 500))
    assert run.apply_to_complete == pytest.approx((1250, 1250))
    assert run.ended_to_complete == pytest.approx((250, 250))


def test_a_contender_that_completes_nothing_has_no_such_latency() -> None:
    seen = observer()
    seen.completed.clear()
    run = measured("bare loop", LOAD, SENT, seen)
    assert (run.complete_rate, run.apply_to_complete, run.ended_to_complete) == (0.0, None, None)


@pytest.mark.parametrize(
    ("seen", "in_time", "errors", "word"),
    [
        pytest.param(observer(), False, 0, "not done within", id="late"),
        pytest.param(observer(pods=2), True, 0, "more than one pod", id="twice"),
        pytest.param(observer(failed=True), True, 0, "1 tasks failed", id="failed"),
        pytest.param(observer(), True, 3, "3 times with 5xx", id="server error"),
    ],
)
def test_a_run_is_void(seen: Observer, in_time: bool, errors: int, word: str) -> None:
    run = measured("agenttask", LOAD, SENT, seen)
    assert any(word in why for why in faults(run, seen, in_time=in_time, errors=errors))


def test_a_run_without_faults_counts() -> None:
    seen = observer()
    assert faults(measured("agenttask", LOAD, SENT, seen), seen, in_time=True, errors=0) == []


def test_writes_are_a_tasks_and_rare_ones_are_left_out() -> None:
    line = 'apiserver_request_total{{code="200",resource="{0}",subresource="",verb="POST"}} {1}\n'
    before, after = line.format("pods", 10), line.format("pods", 110) + line.format("nodes", 1)
    assert per_task(before, after, 100) == {"POST pods": 1.0}


def test_an_observer_takes_a_pod_seen_again_for_the_same() -> None:
    seen, pod = Observer(), Object(Metadata("p", "u", [Owner("t")]))
    seen.on_pod("ADDED", pod)
    first = seen.pod_seen["t"]
    seen.on_pod("ADDED", pod)  # the list after a watch that ended
    seen.on_pod("MODIFIED", Object(Metadata("p", "u", [Owner("t")]), Status(phase="Succeeded")))
    assert (seen.pods_of["t"], seen.pod_seen["t"]) == (1, first)
    assert "t" in seen.pod_ended


def test_a_job_and_a_task_are_complete_each_in_its_own_words() -> None:
    seen = Observer()
    seen.on_owner("MODIFIED", Object(Metadata("job", "1"), Status(completion_time="2026-01-01T00:00:00Z")))
    seen.on_owner("MODIFIED", Object(Metadata("task", "2"), Status(phase="Succeeded")))
    seen.on_owner("MODIFIED", Object(Metadata("open", "3"), Status(phase="Running")))
    assert set(seen.completed) == {"job", "task"}


def test_a_job_runs_the_spec_of_our_pod() -> None:
    pod = {"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": [{"name": "runner"}], "nodeName": "n", "priority": 0}}
    job = json.loads(objects.named(objects.job(pod), "j"))
    assert job["metadata"]["name"] == "j"
    assert job["spec"]["template"]["spec"] == {"containers": [{"name": "runner"}]}
    assert job["spec"]["template"]["metadata"]["annotations"] == {"a": "b"}
