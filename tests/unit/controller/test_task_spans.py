import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.otlp_sink import OtlpSink
from tests.fakes.span_list import SpanList

from agenttask.api import report as reports
from agenttask.api.meta import ObjectMeta
from agenttask.api.reasons import Phase, Reason
from agenttask.api.report import ErrorReport, Report, StepReport
from agenttask.api.steps import Chat, Step
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus, DeviceStatus
from agenttask.controller.observer import NoObserver, TaskObserver
from agenttask.controller.tracing import Tracing, observed, task_spans
from agenttask.domain.observation import SeenPod, SeenTask, Terminated
from agenttask.telemetry.ids import parse_traceparent, span_ref, trace_id
from agenttask.telemetry.span import SpanKind

UID = "0b6c6a9e-7d0f-4f5e-9d55-5d8f7f4c1e11"
CANARY = "canary-7f3d"
CREATED = 1_760_000_000
TASK = SeenTask(
    metadata=ObjectMeta(name="demo", namespace="ns", uid=UID, creation_timestamp="2025-10-09T08:53:20Z"),
    spec=AgentTaskSpec(params={"p": CANARY}, steps=(Step(name="ask", chat=Chat(model="m", prompt=CANARY)),)),
)
ROOT, POD, RUN = span_ref(UID, 0, "task"), span_ref(UID, 1, "pod"), span_ref(UID, 1, "run")


def at(seconds):
    """Unix nanoseconds, `seconds` after the task's creation."""
    return (CREATED * 1000 + round(seconds * 1000)) * 1_000_000


def status(phase=Phase.SUCCEEDED, reason=Reason.SUCCEEDED, completion="2025-10-09T08:53:30Z"):
    return AgentTaskStatus(
        phase=phase, reason=reason, message=CANARY, output=CANARY, completion_time=completion, device=DeviceStatus(class_="cpu")
    )


def report(**changes):
    steps = (StepReport(0, "S", 100, 2500),)
    return Report(**{"started": CREATED * 1000 + 6000, "done": True, "steps": steps, "output": CANARY, **changes})


def pod(told=None, *, created=2.0, started=5.0, finished=8.0, **changes):
    end = None
    if finished is not None:
        message = "" if told is None else reports.encode(told).decode()
        end = Terminated(message=message, started=None if started is None else CREATED + started, finished=CREATED + finished)
    fields = {"name": "demo-1", "uid": "pod-uid", "owner": UID, "created": CREATED + created, "node": "node-1", "terminated": end}
    return SeenPod(**{**fields, **changes})


def test_a_finished_task_is_its_root_its_wait_and_its_pod():
    spans = task_spans(TASK, status(), pod(report()))
    assert [(span.name, span.ref, span.parent, span.start, span.end, span.error) for span in spans] == [
        ("RUN AgentTask", ROOT, None, at(0), at(10), None),
        ("queue", span_ref(UID, 1, "queue"), ROOT, at(0), at(2), None),
        ("pod", POD, ROOT, at(2), at(8.6), None),
    ]
    assert spans[0].kind is SpanKind.SERVER
    assert spans[0].attributes == {
        "cicd.pipeline.action.name": "RUN",
        "cicd.pipeline.run.id": UID,
        "cicd.pipeline.result": "success",
        "k8s.namespace.name": "ns",
        "agenttask.task.name": "demo",
        "agenttask.device.class": "cpu",
    }
    assert spans[2].attributes == {"agenttask.attempt": 1, "k8s.pod.name": "demo-1", "k8s.pod.uid": "pod-uid", "k8s.node.name": "node-1"}


def test_the_same_task_gives_the_same_spans_again():
    assert task_spans(TASK, status(), pod(report())) == task_spans(TASK, status(), pod(report()))


def test_no_content_enters_a_span_and_no_span_is_named_after_the_task():
    failed = status(Phase.FAILED, Reason.STEP_FAILED)
    told = report(error=ErrorReport(reason=Reason.STEP_FAILED, message=CANARY))
    spans = task_spans(TASK, failed, pod(told)) + task_spans(TASK, failed, pod(None))
    assert CANARY not in repr(spans)
    assert not any("demo" in span.name for span in spans)


@pytest.mark.parametrize(
    ("reason", "result"),
    [
        (Reason.STEP_FAILED, "failure"),
        (Reason.INVALID_TASK, "failure"),
        (Reason.DEADLINE_EXCEEDED, "timeout"),
        (Reason.PENDING_DEADLINE_EXCEEDED, "timeout"),
        (Reason.LOST, "error"),
        (Reason.MODEL_UNAVAILABLE, "error"),
    ],
)
def test_a_failure_is_told_in_the_words_of_the_convention(reason, result):
    root = task_spans(TASK, status(Phase.FAILED, reason), None)[0]
    assert (root.error, root.attributes["cicd.pipeline.result"]) == (reason, result)


def test_a_task_without_a_pod_only_waited():
    spans = task_spans(TASK, status(Phase.FAILED, Reason.PENDING_DEADLINE_EXCEEDED), None)
    assert [(span.name, span.start, span.end) for span in spans] == [("RUN AgentTask", at(0), at(10)), ("queue", at(0), at(10))]


def test_a_runner_that_was_killed_gets_its_run_span_from_the_controller():
    spans = task_spans(TASK, status(Phase.FAILED, Reason.OUT_OF_MEMORY), pod(report(done=False, output=None)))
    run = spans[-1]
    assert (run.name, run.ref, run.parent, run.start, run.end, run.error) == ("invoke_agent", RUN, POD, at(6), at(8.6), "OutOfMemory")


def test_a_runner_that_left_no_word_has_run_as_long_as_its_container():
    run = task_spans(TASK, status(Phase.FAILED, Reason.RUNNER_CRASHED), pod(None))[-1]
    assert (run.name, run.start, run.end) == ("invoke_agent", at(5), at(8))


def test_a_container_that_never_started_has_no_run():
    spans = task_spans(TASK, status(Phase.FAILED, Reason.IMAGE_ERROR), pod(None, started=None, finished=None))
    assert [span.name for span in spans] == ["RUN AgentTask", "queue", "pod"]
    assert spans[-1].end == at(10)


def test_a_report_that_lies_about_time_moves_the_end_by_less_than_a_second():
    told = report(started=2**53, steps=(StepReport(0, "S", 2**53, 2**53),))
    assert task_spans(TASK, status(), pod(told))[-1].end == at(9)


def test_a_task_whose_times_cannot_be_read_has_no_spans():
    assert task_spans(TASK, status(completion=None), pod(report())) == []


seconds = st.floats(-100, 100)


@given(created=seconds, started=seconds, finished=seconds, done=st.booleans())
def test_every_span_lies_within_its_parent_whatever_the_clocks_say(created, started, finished, done):
    told = report(done=done, output=None)
    spans = task_spans(TASK, status(), pod(told, created=created, started=started, finished=finished))
    by_ref = {span.ref: span for span in spans}
    for span in spans:
        assert span.start <= span.end
        if span.parent is not None:
            assert by_ref[span.parent].start <= span.start
            assert span.end <= by_ref[span.parent].end


def test_the_pod_is_told_its_parent_and_the_collector_and_no_credential():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:pw@c:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=x",
        "OTEL_SERVICE_NAME": "c",
    }
    given_ = Tracing(SpanList(), environ).environment_for(TASK, 3, "demo-3")
    assert given_ == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "OTEL_RESOURCE_ATTRIBUTES": "k8s.namespace.name=ns,k8s.pod.name=demo-3,k8s.container.name=runner",
        "TRACEPARENT": span_ref(UID, 3, "pod").traceparent(),
    }


def test_what_is_not_sampled_says_so_to_the_pod():
    given_ = Tracing(SpanList(sampled=False), {}).environment_for(TASK, 1, "demo-1")
    assert parse_traceparent(given_["TRACEPARENT"]) == span_ref(UID, 1, "pod", sampled=False)


def test_an_ended_task_is_sent_and_shown_under_its_trace_id():
    spans = SpanList()
    tracing = Tracing(spans, {})
    tracing.task_finished(TASK, status(), pod(report()))
    assert {span.ref.trace_id for span in spans.spans} == {tracing.trace_id(TASK)} == {trace_id(UID)}


async def test_without_an_endpoint_nothing_is_observed():
    async with observed({}, "") as observer:
        assert isinstance(observer, NoObserver)
        assert observer.trace_id(TASK) is None


async def test_an_endpoint_of_the_settings_is_used_and_handed_to_pods():
    with OtlpSink() as sink:
        async with observed({}, sink.endpoint) as observer:
            watching: TaskObserver = observer
            assert watching.environment_for(TASK, 1, "demo-1")["OTEL_EXPORTER_OTLP_ENDPOINT"] == sink.endpoint
            watching.task_finished(TASK, status(), pod(report()))
        assert [span.name for span in sink.spans] == ["RUN AgentTask", "queue", "pod"]
        assert sink.spans[0].resource["service.name"] == "agenttask-controller"
