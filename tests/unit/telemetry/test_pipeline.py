"""The pipeline against a collector on the loopback: what arrives, and that a bad collector hurts nobody."""

import logging
import os
import threading
import time

import pytest
from opentelemetry import trace
from tests.fakes.otlp_sink import OtlpSink

from agenttask.telemetry import pipeline
from agenttask.telemetry.ids import SpanRef, span_ref
from agenttask.telemetry.quiet import LOGGERS
from agenttask.telemetry.setup import configure
from agenttask.telemetry.span import FinishedSpan, SpanKind

UID = "0b6c6a9e-7d0f-4f5e-9d55-5d8f7f4c1e11"
ROOT, CHILD = span_ref(UID, 0, "task"), span_ref(UID, 1, "pod")
SECOND = 1_000_000_000
NOW = 1_760_000_000 * SECOND
SILENT_SECONDS = 60.0
"""After which a silent collector answers: whoever ends well before has not waited for it, also on a slow machine."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """The SDK reads the environment of the process: none of the developer's."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "K8S_")):
            monkeypatch.delenv(name)
    yield
    for thread in threading.enumerate():
        if thread.name == "agenttask-flush":
            thread.join(20)  # of a collector that hung: its end would be heard in the next test


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        yield sink


def started(endpoint, **more):
    telemetry = configure({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more}, service="agenttask-test", version="1.2")
    assert telemetry is not None
    return telemetry


def root(**changes):
    return FinishedSpan(**{"name": "RUN AgentTask", "ref": ROOT, "kind": SpanKind.SERVER, "start": NOW, "end": NOW + 3 * SECOND, **changes})


def child(**changes):
    return FinishedSpan(**{"name": "pod", "ref": CHILD, "parent": ROOT, "start": NOW + SECOND, "end": NOW + 2 * SECOND, **changes})


def test_spans_arrive_with_the_ids_times_and_parents_that_were_given(sink):
    telemetry = started(sink.endpoint, K8S_POD_NAME="operator-0")
    telemetry.emit([root(attributes={"cicd.pipeline.run.id": UID, "tags": ("a", "b"), "n": 3}), child(error="OutOfMemory")])
    telemetry.close()
    first, second = sink.spans
    assert (first.name, first.kind, first.trace_id, first.span_id, first.parent_id) == (
        "RUN AgentTask",
        "SERVER",
        ROOT.trace_id,
        ROOT.span_id,
        "",
    )
    assert (first.start, first.end, first.failed) == (NOW, NOW + 3 * SECOND, False)
    assert first.attributes == {"cicd.pipeline.run.id": UID, "tags": ["a", "b"], "n": 3}
    assert (second.trace_id, second.span_id, second.parent_id) == (ROOT.trace_id, CHILD.span_id, ROOT.span_id)
    assert (second.failed, second.message, second.attributes) == (True, "", {"error.type": "OutOfMemory"})
    assert first.resource["service.name"] == "agenttask-test"
    assert first.resource["service.version"] == "1.2"
    assert first.resource["k8s.pod.name"] == "operator-0"


def test_a_span_never_ends_before_it_starts(sink):
    telemetry = started(sink.endpoint)
    telemetry.emit([root(end=NOW - SECOND)])
    telemetry.close()
    assert [(span.start, span.end) for span in sink.spans] == [(NOW, NOW)]


def test_what_the_user_says_of_the_service_wins(sink, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=other,team=a%20b")
    telemetry = started(sink.endpoint, K8S_POD_NAME="operator-0")
    telemetry.emit([root()])
    telemetry.close()
    resource = sink.spans[0].resource
    assert (resource["service.name"], resource["k8s.pod.name"], resource["team"]) == ("mine", "other", "a b")


def test_headers_reach_the_collector(sink, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")
    telemetry = started(sink.endpoint)
    telemetry.emit([root()])
    telemetry.close()
    headers = {name.lower(): value for name, value in sink.headers[0].items()}
    assert headers["authorization"] == "Bearer x"


def test_a_child_of_a_parent_that_is_not_sampled_is_not_sent(sink):
    telemetry = started(sink.endpoint)
    telemetry.emit([child(parent=SpanRef(ROOT.trace_id, ROOT.span_id, False)), child()])
    telemetry.close()
    assert len(sink.spans) == 1


@pytest.mark.parametrize(("sampler", "expected"), [("always_on", True), ("always_off", False), ("parentbased_always_off", False)])
def test_the_sampler_of_the_environment_decides(sink, monkeypatch, sampler, expected):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    telemetry = started(sink.endpoint)
    assert telemetry.sampled(ROOT.trace_id) is expected
    telemetry.emit([root()])
    telemetry.close()
    assert len(sink.spans) == expected


def test_the_global_provider_is_left_alone(sink):
    before = trace.get_tracer_provider()
    started(sink.endpoint).close()
    assert trace.get_tracer_provider() is before


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"status": 503}, id="busy"),
        pytest.param({"status": 400}, id="refusing"),
        pytest.param({"delay": SILENT_SECONDS}, id="silent"),
    ],
)
def test_a_bad_collector_costs_one_warning_and_three_seconds_at_the_end(bad, caplog, monkeypatch):
    assert pipeline.FLUSH_SECONDS == 3.0
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with OtlpSink(**bad) as sink:
        telemetry = started(sink.endpoint)
        emitting = time.monotonic()
        for _ in range(20):
            telemetry.emit([root(), child()])
            time.sleep(0.01)
        assert time.monotonic() - emitting < SILENT_SECONDS / 2
        closing = time.monotonic()
        telemetry.close()
        assert time.monotonic() - closing < SILENT_SECONDS / 2
        warnings = [record for record in caplog.records if record.name in LOGGERS]
        assert len(warnings) <= 1
        if "status" in bad:
            assert "spans are not exported" in warnings[0].getMessage()


def test_a_collector_that_is_not_there_costs_one_warning(caplog):
    telemetry = started("http://127.0.0.1:9")
    telemetry.emit([root()])
    closing = time.monotonic()
    telemetry.close()
    assert time.monotonic() - closing < 20
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_more_spans_than_the_queue_holds_are_dropped_at_once(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")
    with OtlpSink(delay=SILENT_SECONDS) as sink:
        telemetry = started(sink.endpoint)
        begun = time.monotonic()
        telemetry.emit([root()] * 2000)
        assert time.monotonic() - begun < SILENT_SECONDS / 2
        telemetry.close(0.2)
    assert [record.getMessage() for record in caplog.records] == ["spans are not exported: Queue full, dropping Span."]


def test_an_endpoint_that_cannot_work_turns_tracing_off_with_one_warning(caplog):
    threads = set(threading.enumerate())
    assert configure({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, service="x") is None
    assert [record.getMessage() for record in caplog.records] == [
        "tracing is off: OTEL_EXPORTER_OTLP_ENDPOINT='collector:4318' is no URL; write it as http://host:4318"
    ]
    assert set(threading.enumerate()) <= threads


def test_spans_leave_within_seconds_while_the_process_goes_on(sink):
    telemetry = started(sink.endpoint)
    telemetry.emit([root()])
    assert len(sink.wait_for(1, seconds=4)) == 1
    telemetry.close()
