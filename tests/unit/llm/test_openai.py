"""The `openai` client against a server that misbehaves in every way that endpoints do; each becomes a typed error."""

import asyncio
import json
from datetime import UTC, datetime

import aiohttp
import pytest
from tests.fakes.llm_server import llm_server
from tests.fakes.models import ask, client_context, model_document

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask.api.model import Timeouts
from agenttask.plugin.llm import ChatRequest
from agenttask_llm import endpoint as http
from agenttask_llm.openai import OpenAIClient


@pytest.fixture
async def server():
    async with llm_server() as running:
        yield running


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


def client_of(server, session, *, credential=None, now=lambda: 0.0, **fields) -> OpenAIClient:
    model = model_document("openai", **{"endpoint": server.endpoint} | fields)
    return OpenAIClient(model, client_context(session, credential=credential), now=now)


async def streamed(client, request=None) -> list:
    return [chunk async for chunk in client.stream(request or ask("say grüße"))]


# ---- what is sent


async def test_the_request_holds_the_messages_the_bound_and_the_parameters(server, session):
    parameters = {"temperature": "0.5", "topP": "0.9", "seed": "7", "maxTokensField": "max_completion_tokens"}
    await client_of(server, session, parameters=parameters, credential="sk-1\n").chat(ask("hi", system="be brief", max_tokens=5))
    assert server.requests == [
        {
            "model": "weights-1",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "max_completion_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 7,
        }
    ]
    assert server.headers[0]["Authorization"] == "Bearer sk-1"
    assert server.paths == ["/v1/chat/completions"]


async def test_what_the_request_says_wins_over_the_parameters(server, session):
    request = ChatRequest(messages=ask("hi").messages, max_tokens=5, temperature=0.0, seed=9, stop=("END", "."))
    await client_of(server, session, parameters={"temperature": "0.5", "seed": "7", "topP": "0.9"}).chat(request)
    sent = server.requests[0]
    assert (sent["temperature"], sent["seed"], sent["top_p"], sent["stop"]) == (0.0, 9, 0.9, ["END", "."])


SCHEMA = {"type": "object", "properties": {"edits": {"type": "array"}}}


@pytest.mark.parametrize("call", ["chat", "stream"])
@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        ({"responseFormat": "JsonSchema"}, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        ({"responseFormat": "JsonObject"}, {"type": "json_object"}),
        ({"responseFormat": "None"}, None),
    ],
    ids=["default", "schema", "object", "none"],
)
async def test_a_response_schema_is_sent_as_the_server_takes_it(server, session, parameters, sent, call):
    client = client_of(server, session, parameters=parameters)
    request = ChatRequest(messages=ask("hi").messages, response_schema=SCHEMA)
    await (client.chat(request) if call == "chat" else streamed(client, request))
    assert server.requests[0].get("response_format") == sent
    assert "response_format" not in (await client.chat(ask("hi")) and server.requests[1])


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_refuses_response_format_is_told_with_the_remedy(server, session, status):
    server.behaviour.status = status
    request = ChatRequest(messages=ask("hi").messages, response_schema=SCHEMA)
    client = client_of(server, session)
    for call in (client.chat(request), streamed(client, request)):
        with pytest.raises(ModelRejected, match=r"set `parameters\.responseFormat` to JsonObject or None$"):
            await call
    with pytest.raises(ModelRejected) as caught:
        await client.chat(ask("hi"))
    assert "responseFormat" not in str(caught.value)


async def test_without_a_credential_no_header_is_sent_and_a_slash_at_the_end_does_not_matter(server, session):
    await client_of(server, session, endpoint=f"{server.endpoint}/").chat(ask("hi"))
    assert "Authorization" not in server.headers[0]
    assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize(("wish", "asked"), [({}, True), ({"streamUsage": "False"}, False)])
async def test_usage_of_a_stream_is_asked_for_unless_the_server_refuses_that(server, session, wish, asked):
    chunks = await streamed(client_of(server, session, parameters=wish))
    assert ("stream_options" in server.requests[0]) is asked
    assert chunks[-1].usage.calls == 1
    assert bool(chunks[-1].usage.output_tokens) is asked


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"endpoint": None}, "needs the base URL"),
        ({"parameters": {"top_p": "1"}}, "has no such parameter"),
        ({"parameters": {"maxTokensField": "limit"}}, "'limit' is none of max_tokens"),
        ({"parameters": {"responseFormat": "Xml"}}, "'Xml' is none of JsonSchema, JsonObject, None"),
        ({"parameters": {"temperature": "3"}}, "no number from 0 to 2"),
        ({"credential": "a\nb"}, "characters that no HTTP header takes"),
        ({"credential": "schlüssel"}, "characters that no HTTP header takes"),
    ],
)
async def test_a_model_that_cannot_work_is_refused_by_its_field(server, session, fields, problem):
    with pytest.raises(InvalidTask, match=problem):
        client_of(server, session, **fields)


async def test_half_of_a_surrogate_pair_is_refused_before_it_is_sent(server, session):
    with pytest.raises(ModelRejected, match="surrogate"):
        await client_of(server, session).chat(ask("\ud800"))
    assert server.requests == []


@pytest.mark.parametrize("endpoint", ["http://", "http://[::1", "http://host:99999/v1"])
async def test_an_endpoint_that_is_no_url_is_named(server, session, endpoint):
    with pytest.raises((InvalidTask, ModelUnavailable), match="http://"):
        await client_of(server, session, endpoint=endpoint).chat(ask("hi"))


# ---- answers that are errors


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (401, ModelRejected, "check the credential"),
        (404, ModelRejected, "check `endpoint`"),
        (302, ModelRejected, "redirects are not followed"),
        (429, RateLimited, "answered 429"),
        (500, ModelUnavailable, "answered 500"),
        (503, ModelUnavailable, "answered 503"),
    ],
)
@pytest.mark.parametrize("call", ["chat", "stream", "embed"])
async def test_an_error_status_is_typed_in_every_call(server, session, status, kind, hint, call):
    server.behaviour.status = status
    server.behaviour.body = b'{"error": {"message": "key sk-1 is wrong"}}'
    client = client_of(server, session, credential="sk-1")
    with pytest.raises(kind, match=hint) as caught:
        await (streamed(client) if call == "stream" else client.embed(["x"]) if call == "embed" else client.chat(ask("x")))
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize("call", ["chat", "stream", "embed"])
async def test_a_redirect_is_not_followed_and_told_with_the_remedy(server, session, call):
    server.behaviour.status, server.behaviour.headers = 307, {"Location": f"{server.endpoint}/elsewhere"}
    client = client_of(server, session)
    with pytest.raises(ModelRejected, match="answered 307; redirects are not followed, set `endpoint` to where it leads"):
        await (streamed(client) if call == "stream" else client.embed(["x"]) if call == "embed" else client.chat(ask("x")))
    assert len(server.headers) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("Wed, 01 Jan 2025 00:00:20 GMT", 20.0), ("whenever", None)], ids=["seconds", "date", "words"]
)
async def test_a_rate_limit_carries_both_forms_of_retry_after(server, session, value, seconds):
    server.behaviour.status = 429
    server.behaviour.headers = {"Retry-After": value}
    client = client_of(server, session, now=lambda: datetime(2025, 1, 1, tzinfo=UTC).timestamp())
    with pytest.raises(RateLimited) as caught:
        await client.chat(ask("x"))
    assert caught.value.retry_after == seconds


async def test_a_long_error_page_is_read_only_at_its_beginning(server, session):
    server.behaviour.status = 502
    server.behaviour.content_type = "text/html"
    server.behaviour.body = b"<html>" + b"x" * (1 << 20)
    with pytest.raises(ModelUnavailable, match="<html>") as caught:
        await client_of(server, session).chat(ask("x"))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>It works!</html>", "is no answer .*It works.*is `endpoint` right"),
        (b"\xff\xfe", "is no answer"),
        (b'{"choices": "no"}', "is no answer"),
        (b"[]", "is no answer"),
        (b'{"choices": []}', "without a message"),
        (b'{"choices": null}', "without a message"),
        (b'{"choices": [{"finish_reason": "stop"}]}', "without a message"),
        (b'{"error": {"message": "context too long", "code": 400}}', "context too long"),
    ],
    ids=["html", "bytes", "wrong type", "list", "no choices", "null", "no message", "error with 200"],
)
async def test_an_answer_that_is_none_is_refused(server, session, body, problem):
    server.behaviour.body = body
    with pytest.raises(ModelRejected, match=problem):
        await client_of(server, session).chat(ask("x"))


async def test_a_message_without_content_is_an_empty_answer(server, session):
    server.behaviour.body = b'{"choices": [{"message": {"content": null}}], "usage": null}'
    answer = await client_of(server, session).chat(ask("x"))
    assert (answer.text, answer.finish_reason, answer.usage.calls, answer.usage.input_tokens) == ("", "stop", 1, 0)


async def test_an_endless_body_is_refused(server, session, monkeypatch):
    monkeypatch.setattr(http, "_BODY_BYTES", 1000)
    server.behaviour.body = b" " * 100_000
    with pytest.raises(ModelRejected, match="more than 1000 bytes"):
        await client_of(server, session).chat(ask("x"))


# ---- the transport


async def test_a_late_answer_is_unavailable_and_names_the_limits(server, session):
    server.behaviour.delay = 30
    client = client_of(server, session, timeouts=Timeouts(connect_seconds=2, total_seconds=1))
    with pytest.raises(ModelUnavailable, match=r"connectSeconds 2, totalSeconds 1"):
        await client.chat(ask("x"))


async def test_a_stream_that_stalls_is_unavailable(server, session):
    server.behaviour.stall_after = 3
    client = client_of(server, session, timeouts=Timeouts(connect_seconds=2, total_seconds=1))
    with pytest.raises(ModelUnavailable, match="did not answer in time"):
        await streamed(client)
    async with asyncio.timeout(5):
        await server.disconnected.wait()


async def test_a_refused_connection_is_unavailable(server, session):
    with pytest.raises(ModelUnavailable, match=r"cannot be reached: \[Errno \d+\] Connect call failed \('127.0.0.1', 9\)$"):
        await client_of(server, session, endpoint="http://127.0.0.1:9/v1").chat(ask("x"))


@pytest.mark.parametrize("after", [0, 3])
async def test_a_connection_that_is_lost_in_mid_stream_is_unavailable(server, session, after):
    server.behaviour.hang_up_after = after
    with pytest.raises(ModelUnavailable, match="broke off in the middle of its answer"):
        await streamed(client_of(server, session))


async def test_what_speaks_no_http_is_refused(server, session):
    async def answer(_reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ModelRejected, match=r"^[^\n]*does not speak HTTP: [^\n]*SSH-2.0[^\n]*$"):
            await client_of(server, session, endpoint=f"http://127.0.0.1:{port}/v1").chat(ask("x"))


async def test_tls_where_there_is_none_is_refused(server, session):
    with pytest.raises((ModelRejected, ModelUnavailable)):
        await client_of(server, session, endpoint=server.endpoint.replace("http:", "https:")).chat(ask("x"))


# ---- streams


@pytest.mark.parametrize("cut", [None, 1, 2, 7], ids=lambda cut: f"cut-{cut}")
@pytest.mark.parametrize("done", [True, False], ids=["with-done", "without-done"])
async def test_a_stream_is_whole_however_its_bytes_arrive(server, session, cut, done):
    server.behaviour.cut, server.behaviour.done = cut, done
    chunks = await streamed(client_of(server, session))
    assert "".join(chunk.text for chunk in chunks) == "echo: say grüße"
    assert (chunks[-1].finish_reason, chunks[-1].usage.output_tokens, chunks[-1].model) == ("stop", 3, "scripted-1")


async def test_events_without_data_keep_the_stream_alive(server, session):
    server.behaviour.events = ["data:\n\n", 'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n', "data: \n\n"]
    assert "".join(chunk.text for chunk in await streamed(client_of(server, session))) == "a"


async def test_a_server_that_hangs_up_while_tls_begins_is_told_with_the_remedy(server, session):
    async def hang_up(_reader, writer):
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ModelUnavailable, match=r"cannot be reached: \S+.*does it speak TLS\? `endpoint` begins with https:"):
            await client_of(server, session, endpoint=f"https://127.0.0.1:{port}/v1").chat(ask("x"))


async def test_line_breaks_of_windows_and_a_last_event_without_its_blank_line_are_read(server, session):
    events = [{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"message": {"content": "b"}, "finish_reason": "stop"}]}]
    server.behaviour.events = [f"data: {json.dumps(event)}\r\n\r\n" for event in events[:1]] + [f"data: {json.dumps(events[1])}"]
    assert "".join(chunk.text for chunk in await streamed(client_of(server, session))) == "ab"


async def test_a_last_done_without_its_blank_line_ends_the_stream(server, session):
    server.behaviour.events = ['data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n', "data: [DONE]"]
    assert "".join(chunk.text for chunk in await streamed(client_of(server, session))) == "a"


@pytest.mark.parametrize(
    ("events", "kind", "problem"),
    [
        (['data: {"choices": [{"delta": {"content": "a"}}]}\n\n'], ModelUnavailable, "middle of its answer"),
        (["data: [DONE]\n\n"], ModelUnavailable, "middle of its answer"),
        (["data: garbage\n\n"], ModelRejected, "is no answer"),
        (['data: {"error": {"message": "slow", "code": 429}}\n\n'], RateLimited, "slow"),
        (["data: \udcff\n\n"], ModelRejected, "malformed stream"),
        ([f"data: {'x' * (2 << 20)}\n\n"], ModelRejected, "malformed stream"),
    ],
    ids=["cut short", "empty", "garbage", "error", "not text", "endless line"],
)
async def test_a_stream_that_ends_badly_is_typed(server, session, events, kind, problem):
    server.behaviour.events = events
    with pytest.raises(kind, match=problem):
        await streamed(client_of(server, session))


async def test_an_answer_in_place_of_a_stream_is_refused(server, session):
    server.behaviour.body = b"<html>hello</html>"
    server.behaviour.content_type = "text/html"
    with pytest.raises(ModelRejected, match="text/html where a stream"):
        await streamed(client_of(server, session))


# ---- embeddings


async def test_vectors_are_put_in_the_order_of_their_texts(server, session):
    client = client_of(server, session)
    straight = await client.embed(["a", "b c"])
    server.behaviour.shuffle = True
    assert (await client.embed(["a", "b c"])).vectors == straight.vectors
    assert straight.usage.input_tokens == 3


async def test_vectors_without_a_number_count_as_they_come(server, session):
    server.behaviour.body = b'{"data": [{"embedding": [1]}, {"embedding": [2]}]}'
    assert (await client_of(server, session).embed(["a", "b"])).vectors == ([1.0], [2.0])


@pytest.mark.parametrize(
    "body",
    [b'{"data": [{"embedding": [1]}]}', b'{"data": [{"embedding": [1], "index": 0}, {"embedding": [1], "index": 0}]}'],
    ids=["too few", "twice the same"],
)
async def test_vectors_that_do_not_match_their_texts_are_refused(server, session, body):
    server.behaviour.body = body
    with pytest.raises(ModelRejected, match="for 2 texts"):
        await client_of(server, session).embed(["a", "b"])
