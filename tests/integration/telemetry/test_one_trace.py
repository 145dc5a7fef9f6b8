"""One task is one tree, in a collector that shows every byte and in a real OTLP server that stores and answers."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.otlp_sink import OtlpSink
from tests.fakes.task_life import CANARY, controller_sends, live
from tests.phoenix.server import Phoenix

from agenttask.telemetry.ids import trace_id

TREE = {
    "RUN AgentTask": None,
    "queue": "RUN AgentTask",
    "pod": "RUN AgentTask",
    "invoke_agent": "pod",
    "step echo first": "invoke_agent",
    "step echo beside": "invoke_agent",
    "step echo last": "invoke_agent",
    "chat gpt-small of first": "step echo first",
    "chat gpt-small of beside": "step echo beside",
}


@pytest.fixture(autouse=True)
def no_telemetry_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


def shape(spans: list[Any]) -> dict[str, str | None]:
    """Each span's parent, by names that tell steps and their calls apart; a span twice or without its parent is an error."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    steps = {span.span_id: span.attributes["agenttask.step.name"] for span in spans if "agenttask.step.name" in span.attributes}

    def label(span: Any) -> str:
        if span.span_id in steps:
            return f"{span.name} {steps[span.span_id]}"
        return f"{span.name} of {steps[span.parent_id]}" if span.parent_id in steps else span.name

    return {label(span): label(by_id[span.parent_id]) if span.parent_id else None for span in spans}


async def test_a_task_is_one_tree_with_both_programs_in_it_and_no_content(tmp_path: Path) -> None:
    uid = str(uuid.uuid4())
    with OtlpSink() as sink:
        controller_sends(await live(uid, tmp_path, sink.endpoint), sink.endpoint)
        spans = sink.wait_for(len(TREE))
        assert CANARY not in repr(spans)
        assert CANARY.encode() not in b"".join(sink.bodies)
    assert shape(spans) == TREE
    assert {span.trace_id for span in spans} == {trace_id(uid)}
    assert {span.resource["service.name"] for span in spans} == {"agenttask-controller", "agenttask-runner"}
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        if span.parent_id:
            parent = by_id[span.parent_id]
            # The pod's end is known to the report's millisecond, the run's a little later: after its report is written.
            assert parent.start <= span.start
            assert span.end <= parent.end + 1_000_000_000


async def test_phoenix_stores_one_tree_and_nothing_twice_when_a_restarted_controller_sends_again(tmp_path: Path, phoenix: Phoenix) -> None:
    uid = str(uuid.uuid4())
    ended = await live(uid, tmp_path, phoenix.endpoint)
    controller_sends(ended, phoenix.endpoint)
    first = phoenix.wait_for(trace_id(uid), len(TREE))
    assert shape(first) == TREE

    controller_sends(ended, phoenix.endpoint)
    marker = str(uuid.uuid4())  # what was sent before it has been stored when it is there
    (tmp_path / "other").mkdir()
    controller_sends(await live(marker, tmp_path / "other", phoenix.endpoint), phoenix.endpoint)
    phoenix.wait_for(trace_id(marker), len(TREE))
    again = phoenix.spans(trace_id(uid))
    assert sorted(span.span_id for span in again) == sorted(span.span_id for span in first)
    assert CANARY not in repr(again)


async def test_phoenix_reads_model_calls_as_such(tmp_path: Path, phoenix: Phoenix) -> None:
    uid = str(uuid.uuid4())
    await live(uid, tmp_path, phoenix.endpoint)
    spans = phoenix.wait_for(trace_id(uid), 6)
    calls = [span for span in spans if span.name == "chat gpt-small"]
    assert len(calls) == 2
    for call in calls:
        assert call.kind == "LLM"
        assert call.attributes["llm.token_count.prompt"] == 3
        assert call.attributes["llm.token_count.completion"] == 4
    assert [span.kind for span in spans if span.name == "invoke_agent"] == ["AGENT"]


def test_phoenix_reaches_for_nothing_outside_of_this_machine(phoenix: Phoenix) -> None:
    assert phoenix.spans(trace_id("never sent")) == []
    assert phoenix.outbound_attempts() == []
