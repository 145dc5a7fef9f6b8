import asyncio
import itertools

import aiohttp
import pytest
from aiohttp import web
from tests.fakes.span_list import SpanList

from agenttask.api.document import ModelDocument, TaskDocument, TaskRef
from agenttask.api.errors import Interrupted, ModelUnavailable, StepFailed
from agenttask.api.steps import Chat, Exec, Step, StepRetry
from agenttask.api.task import AgentTaskSpec
from agenttask.plugin.llm import Usage
from agenttask.runner.tracing import MAX_ITEM_SPANS, Tracing
from agenttask.telemetry.ids import parse_traceparent, span_id, span_ref, trace_id
from agenttask.telemetry.span import FinishedSpan, SpanKind

UID = "0b6c6a9e-7d0f-4f5e-9d55-5d8f7f4c1e11"
CANARY = "canary-7f3d"
SECOND = 1_000_000_000
POD = span_ref(UID, 2, "pod")
RUN, ASK = span_ref(UID, 2, "run"), span_ref(UID, 2, "step/ask")
MODEL = ModelDocument(name="small", client="openai", model="gpt-small", endpoint="http://model")
STEPS = (
    Step(name="ask", chat=Chat(model="small", prompt=f"{CANARY}-prompt", system=f"{CANARY}-system")),
    Step(name="edit", exec=Exec(command=("agent", f"{CANARY}-argument"), stdin=f"{CANARY}-stdin")),
)
DOCUMENT = TaskDocument(
    task=TaskRef(name="demo", namespace="ns", uid=UID),
    attempt=2,
    spec=AgentTaskSpec(params={"p": f"{CANARY}-param"}, steps=STEPS),
    models=(MODEL,),
)


@pytest.fixture
def spans():
    return SpanList()


@pytest.fixture
def tracing(spans):
    ticks = itertools.count(1000 * SECOND, SECOND)
    environ = {"TRACEPARENT": POD.traceparent(), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS": "secret"}
    return Tracing(spans, environ, lambda: next(ticks))


def call(tracing, number, *, step="ask", operation="chat", max_tokens=64, error=None, seconds=0.25):
    tracing.model_call_started(number, step, MODEL, operation, max_tokens=max_tokens)
    failed = error is not None
    tracing.model_call_ended(
        number,
        seconds=seconds,
        usage=Usage(calls=1) if failed else Usage(calls=1, input_tokens=7, output_tokens=3),
        finish_reason=None if failed else "stop",
        answered_by="" if failed else "gpt-small-2026",
        error=error,
    )


def test_a_run_is_one_tree_under_the_span_that_the_environment_names(tracing, spans):
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, STEPS[0])
    call(tracing, 1)
    tracing.step_ended(0, STEPS[0], seconds=1.5, error=None)
    tracing.run_ended(DOCUMENT, seconds=4.0, usage=Usage(), error=None)
    assert spans.spans == [
        FinishedSpan(
            name="chat gpt-small",
            ref=span_ref(UID, 2, "call/1"),
            parent=ASK,
            kind=SpanKind.CLIENT,
            start=1002 * SECOND,
            end=1002 * SECOND + SECOND // 4,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "agenttask.model.name": "small",
                "gen_ai.request.model": "gpt-small",
                "gen_ai.request.max_tokens": 64,
                "gen_ai.response.model": "gpt-small-2026",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 3,
            },
        ),
        FinishedSpan(
            name="step chat",
            ref=ASK,
            parent=RUN,
            start=1001 * SECOND,
            end=1002 * SECOND + SECOND // 2,
            attributes={"agenttask.step.name": "ask", "agenttask.step.kind": "chat"},
        ),
        FinishedSpan(
            name="invoke_agent",
            ref=RUN,
            parent=POD,
            start=1000 * SECOND,
            end=1004 * SECOND,
            attributes={"gen_ai.operation.name": "invoke_agent", "cicd.pipeline.run.id": UID, "agenttask.attempt": 2},
        ),
    ]


def test_a_failure_shows_as_its_typed_reason_and_never_as_its_message(tracing, spans):
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, STEPS[0])
    call(tracing, 1, error=ModelUnavailable(f"the answer was {CANARY}"))
    call(tracing, 2, error=asyncio.CancelledError())
    tracing.step_ended(0, STEPS[0], seconds=1, error=StepFailed(CANARY))
    tracing.run_ended(DOCUMENT, seconds=1, usage=Usage(), error=Interrupted(CANARY))
    assert [span.error for span in spans.spans] == ["ModelUnavailable", "CancelledError", "StepFailed", "Lost"]
    assert "gen_ai.usage.input_tokens" not in spans.spans[0].attributes
    assert CANARY not in repr(spans.spans)


def test_prompts_params_commands_and_input_enter_no_span(tracing, spans):
    tracing.run_started(DOCUMENT)
    for index, step in enumerate(STEPS):
        tracing.step_started(index, step)
        call(tracing, index, step=step.name)
        tracing.step_ended(index, step, seconds=1, error=None)
    tracing.run_ended(DOCUMENT, seconds=1, usage=Usage(), error=None)
    assert len(spans.spans) == 5
    assert CANARY not in repr(spans.spans)


def test_embeddings_are_called_by_their_convention(tracing, spans):
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, STEPS[0])
    call(tracing, 1, operation="embed", max_tokens=None)
    span = spans.named("embeddings gpt-small")
    assert span.attributes["gen_ai.operation.name"] == "embeddings"
    assert "gen_ai.request.max_tokens" not in span.attributes


def test_a_task_that_was_refused_before_it_started_is_a_run_with_an_error(tracing, spans):
    tracing.run_ended(DOCUMENT, seconds=0.5, usage=Usage(), error=StepFailed("no"))
    (span,) = spans.spans
    assert (span.ref, span.parent, span.start, span.end, span.error) == (
        RUN,
        POD,
        1000 * SECOND - SECOND // 2,
        1000 * SECOND,
        "StepFailed",
    )


@pytest.mark.parametrize("value", ["", "nonsense", f"00-{'0' * 32}-{'1' * 16}-01"])
def test_without_a_valid_parent_the_run_is_the_root_of_the_tasks_trace(spans, value):
    tracing = Tracing(spans, {"TRACEPARENT": value}, lambda: SECOND)
    tracing.run_started(DOCUMENT)
    tracing.run_ended(DOCUMENT, seconds=0, usage=Usage(), error=None)
    (span,) = spans.spans
    assert (span.parent, span.ref.trace_id, span.ref.span_id) == (None, trace_id(UID), span_id(UID, 2, "run"))


def test_a_trace_that_is_not_recorded_stays_so(spans):
    tracing = Tracing(spans, {"TRACEPARENT": f"00-{POD.trace_id}-{POD.span_id}-00"}, lambda: SECOND)
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, STEPS[0])
    assert tracing.current().sampled is False
    assert tracing.step_environment()["TRACEPARENT"].endswith("-00")


async def test_concurrent_steps_each_know_their_own_span(tracing):
    tracing.run_started(DOCUMENT)
    assert tracing.current() == RUN

    async def step(index):
        tracing.step_started(index, STEPS[index])
        await asyncio.sleep(0.01)
        before = tracing.current()
        tracing.model_call_started(index, STEPS[index].name, MODEL, "chat", max_tokens=None)
        await asyncio.sleep(0.01)
        during = tracing.current()
        tracing.model_call_ended(index, seconds=0, usage=Usage(), finish_reason=None, answered_by="", error=None)
        after = tracing.current()
        tracing.step_ended(index, STEPS[index], seconds=0, error=None)
        return before, during, after

    for index, seen in enumerate(await asyncio.gather(*(asyncio.create_task(step(index)) for index in range(2)))):
        own = span_ref(UID, 2, f"step/{STEPS[index].name}")
        assert seen == (own, span_ref(UID, 2, f"call/{index}"), own)


def test_a_process_of_a_step_gets_the_step_as_its_parent_and_no_header(tracing):
    assert tracing.step_environment() == {}
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, STEPS[0])
    assert tracing.step_environment() == {"TRACEPARENT": ASK.traceparent(), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


async def test_a_request_to_a_model_carries_the_call_as_its_parent(tracing):
    seen = []

    async def answer(request):
        seen.append(parse_traceparent(request.headers.get("traceparent")))
        return web.Response()

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with aiohttp.ClientSession(trace_configs=[tracing.http_trace()]) as session:
        await session.get(url)
        tracing.run_started(DOCUMENT)
        tracing.step_started(0, STEPS[0])
        tracing.model_call_started(1, "ask", MODEL, "chat", max_tokens=None)
        await session.get(url)
    await runner.cleanup()
    assert seen == [None, span_ref(UID, 2, "call/1")]


EACH = Step(name="each", for_each="{{ x }}", retry=StepRetry(limit=2), exec=Exec(command=("agent", "{{ item }}")))


def test_items_are_spans_below_their_step_and_their_calls_below_them(tracing, spans):
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, EACH)
    for item in range(2):
        tracing.item_started(0, EACH, item, 2)
        call(tracing, item, step="each")
        tracing.try_failed(0, EACH, item, tries=1, error=StepFailed(CANARY), pause=1.0)
        tracing.item_ended(0, EACH, item, 2, seconds=1, error=StepFailed(CANARY) if item else None)
    assert tracing.current() == span_ref(UID, 2, "step/each")
    tracing.step_ended(0, EACH, seconds=9, error=None)
    found = {span.ref: span for span in spans.spans}
    for item in range(2):
        own = span_ref(UID, 2, f"step/each/item/{item}")
        assert found[span_ref(UID, 2, f"call/{item}")].parent == own
        assert (found[own].parent, found[own].name, found[own].error) == (
            span_ref(UID, 2, "step/each"),
            "item exec",
            "StepFailed" if item else None,
        )
        assert found[own].attributes == {"agenttask.step.name": "each", "agenttask.item.index": item}
    assert found[span_ref(UID, 2, "step/each")].attributes == {
        "agenttask.step.name": "each",
        "agenttask.step.kind": "exec",
        "agenttask.step.items": 2,
        "agenttask.step.retries": 2,
    }
    assert CANARY not in repr(spans.spans)


def test_beyond_a_hundred_items_are_counted_only(tracing, spans):
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, EACH)
    for item in range(300):
        tracing.item_started(0, EACH, item, 300)
        tracing.item_ended(0, EACH, item, 300, seconds=1, error=None)
    call(tracing, 1, step="each")
    tracing.step_ended(0, EACH, seconds=9, error=None)
    assert [span.name for span in spans.spans].count("item exec") == MAX_ITEM_SPANS
    assert spans.spans[-2].parent == span_ref(UID, 2, "step/each")
    assert spans.spans[-1].attributes["agenttask.step.items"] == 300


async def test_calls_that_run_at_once_in_one_step_are_siblings(tracing, spans):
    tracing.run_started(DOCUMENT)
    tracing.step_started(0, STEPS[0])
    tracing.model_call_started(1, "ask", MODEL, "chat", max_tokens=None)
    tracing.model_call_started(2, "ask", MODEL, "chat", max_tokens=None)
    for number in (1, 2):
        tracing.model_call_ended(number, seconds=0, usage=Usage(), finish_reason=None, answered_by="", error=None)
    assert [span.parent for span in spans.spans] == [ASK, ASK]
