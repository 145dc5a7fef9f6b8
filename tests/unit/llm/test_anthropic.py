"""The `anthropic` client: what it sends, and what becomes of each way to answer."""

import json

import aiohttp
import pytest
from tests.fakes.llm_server import llm_server
from tests.fakes.models import ask, client_context, model_document

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask.plugin.llm import ChatRequest, Message
from agenttask_llm.anthropic import AnthropicClient


@pytest.fixture
async def server():
    async with llm_server() as running:
        yield running


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


def client_of(server, session, *, credential=None, **fields) -> AnthropicClient:
    model = model_document("anthropic", **{"endpoint": server.url} | fields)
    return AnthropicClient(model, client_context(session, credential=credential), now=lambda: 0.0)


async def streamed(client, request=None) -> list:
    return [chunk async for chunk in client.stream(request or ask("say grüße"))]


def event(kind: str, **fields) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


TEXT = {"type": "text_delta", "text": "a"}


# ---- what is sent


async def test_the_request_is_a_message_with_its_system_apart(server, session):
    request = ChatRequest(
        messages=(
            Message(role="system", content="be brief"),
            Message(role="user", content="one"),
            Message(role="assistant", content="two"),
            Message(role="system", content="be kind"),
            Message(role="user", content="hi"),
        ),
        max_tokens=5,
        temperature=0.3,
        seed=7,
        stop=("END",),
        response_schema={"type": "object"},
    )
    client = client_of(server, session, credential="sk-1\n", parameters={"temperature": "0.5", "topP": "0.9", "topK": "40"})
    await client.chat(request)
    assert server.requests == [
        {
            "model": "weights-1",
            "max_tokens": 5,
            "messages": [
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"},
                {"role": "user", "content": "hi"},
            ],
            "system": "be brief\n\nbe kind",
            "temperature": 0.3,
            "top_p": 0.9,
            "top_k": 40,
            "stop_sequences": ["END"],
        }
    ]
    sent = server.headers[0]
    assert (sent["x-api-key"], sent["anthropic-version"], server.paths) == ("sk-1", "2023-06-01", ["/v1/messages"])
    assert "Authorization" not in sent


async def test_another_version_and_structured_outputs_are_asked_for_by_parameters(server, session):
    client = client_of(server, session, parameters={"version": "2099-01-01", "responseFormat": "JsonSchema"})
    schema = {"type": "object", "additionalProperties": False}
    await client.chat(ChatRequest(messages=ask("x").messages, response_schema=schema, temperature=0.5))
    assert "temperature" not in server.requests[0]
    assert server.headers[0]["anthropic-version"] == "2099-01-01"
    assert "x-api-key" not in server.headers[0]
    assert server.requests[0]["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    server.behaviour.status = 400
    with pytest.raises(ModelRejected, match=r"`parameters\.responseFormat: None` asks without"):
        await client.chat(ChatRequest(messages=ask("x").messages, response_schema=schema))


def test_without_an_endpoint_it_is_anthropics_own():
    client = AnthropicClient(model_document("anthropic"), client_context())
    assert client._endpoint.base == "https://api.anthropic.com"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"parameters": {"seed": "1"}}, "has no such parameter; it has: responseFormat, temperature, topK, topP, version"),
        ({"parameters": {"temperature": "2"}}, "no number from 0 to 1"),
        ({"parameters": {"topK": "4", "version": "2026-10-21"}}, "'2026-10-21' of the API takes no temperature, topP and topK"),
        ({"parameters": {"responseFormat": "JsonObject"}}, "'JsonObject' is none of None, JsonSchema"),
    ],
)
async def test_a_model_that_cannot_work_is_refused_by_its_field(server, session, fields, problem):
    with pytest.raises(InvalidTask, match=problem):
        client_of(server, session, **fields)


async def test_embeddings_are_refused_with_the_remedy(server, session):
    client = client_of(server, session)
    with pytest.raises(ModelRejected, match=r"has no embeddings.*client 'openai' or 'local'"):
        await client.embed(["x"])
    await client.aclose()
    assert server.requests == []


# ---- answers


async def test_tokens_of_the_prompt_cache_are_input_too_and_thinking_is_no_answer(server, session):
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 5}
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so "}, {"type": "text", "text": "it is"}]
    server.behaviour.body = json.dumps({"content": content, "stop_reason": "stop_sequence", "usage": usage, "model": "m-1"}).encode()
    answer = await client_of(server, session).chat(ask("x"))
    assert (answer.text, answer.finish_reason, answer.model) == ("so it is", "stop", "m-1")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (321, 5)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("model_context_window_exceeded", "length"), ("refusal", "refusal"), (None, "stop")],
)
async def test_the_reason_to_stop_is_told_in_the_words_of_the_other_clients(server, session, reason, finish):
    server.behaviour.body = json.dumps({"content": [], "stop_reason": reason}).encode()
    assert (await client_of(server, session).chat(ask("x"))).finish_reason == finish


@pytest.mark.parametrize(
    ("body", "kind", "problem"),
    [
        (b'{"choices": []}', ModelRejected, "without content; is `endpoint` right"),
        (b"<html>", ModelRejected, "is no answer"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', ModelUnavailable, "Overloaded"),
    ],
    ids=["openai's", "html", "error with 200"],
)
async def test_an_answer_that_is_none_is_typed(server, session, body, kind, problem):
    server.behaviour.body = body
    with pytest.raises(kind, match=problem):
        await client_of(server, session).chat(ask("x"))


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, ModelRejected, "answered 400: wrong"),
        (401, ModelRejected, "check the credential"),
        (404, ModelRejected, "it ends before /v1/messages"),
        (413, ModelRejected, "answered 413"),
        (429, RateLimited, "answered 429"),
        (500, ModelUnavailable, "answered 500"),
        (529, ModelUnavailable, "answered 529"),
    ],
)
@pytest.mark.parametrize("call", ["chat", "stream"])
async def test_an_error_status_is_typed_in_every_call(server, session, status, kind, hint, call):
    server.behaviour.status = status
    server.behaviour.headers = {"Retry-After": "7"}
    server.behaviour.body = b'{"type": "error", "error": {"type": "some_error", "message": "wrong sk-1"}}'
    client = client_of(server, session, credential="sk-1")
    with pytest.raises(kind, match=hint) as caught:
        await (streamed(client) if call == "stream" else client.chat(ask("x")))
    assert "sk-1" not in str(caught.value)
    if kind is RateLimited:
        assert caught.value.retry_after == 7.0


# ---- streams


@pytest.mark.parametrize("cut", [None, 1, 7], ids=lambda cut: f"cut-{cut}")
async def test_a_stream_is_whole_however_its_bytes_arrive(server, session, cut):
    server.behaviour.cut = cut
    chunks = await streamed(client_of(server, session))
    assert "".join(chunk.text for chunk in chunks) == "echo: say grüße"
    assert (chunks[-1].finish_reason, chunks[-1].model) == ("stop", "scripted-1")
    assert (chunks[-1].usage.input_tokens, chunks[-1].usage.output_tokens) == (2, 3)


async def test_blocks_may_begin_with_text_and_unknown_events_say_nothing(server, session):
    server.behaviour.events = [
        event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 1}}),
        event("content_block_start", content_block={"type": "text", "text": "b"}),
        event("something_new", delta={"text": "not this"}),
        event("content_block_delta", delta={"type": "thinking_delta", "thinking": "nor this"}),
        event("content_block_delta", delta=TEXT),
        event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"input_tokens": 11, "output_tokens": 2}),
        event("message_stop"),
        "data: garbage after the end\n\n",
    ]
    chunks = await streamed(client_of(server, session))
    assert [chunk.text for chunk in chunks] == ["b", "a", ""]
    assert (chunks[-1].finish_reason, chunks[-1].usage.input_tokens, chunks[-1].usage.output_tokens) == ("length", 11, 2)


@pytest.mark.parametrize(
    ("events", "kind", "problem"),
    [
        ([event("content_block_delta", delta=TEXT)], ModelUnavailable, "middle of its answer"),
        ([event("error", error={"type": "overloaded_error", "message": "Overloaded"})], ModelUnavailable, "Overloaded"),
        ([event("error", error={"type": "api_error", "message": ""})], ModelUnavailable, "api_error"),
        ([event("error", error={"type": "rate_limit_error", "message": "slow"})], RateLimited, "slow"),
        ([event("error", error={"type": "invalid_request_error", "message": "no"})], ModelRejected, "no"),
        (["data: garbage\n\n"], ModelRejected, "is no answer"),
        (["data: {}\n\n"], ModelRejected, "is no answer"),
        (["data: \udcff\n\n"], ModelRejected, "malformed stream"),
    ],
    ids=["cut short", "overloaded", "wordless", "rate limited", "refused", "garbage", "no type", "not text"],
)
async def test_a_stream_that_ends_badly_is_typed(server, session, events, kind, problem):
    server.behaviour.events = events
    with pytest.raises(kind, match=problem):
        await streamed(client_of(server, session))
