"""The server that our clients are tested with is honest: the official SDKs take it for the real one, errors and all.

What an SDK reads and what our client reads of the same server is the same.
"""

from types import SimpleNamespace

import aiohttp
import anthropic
import openai
import pytest
from tests.fakes.llm_server import llm_server
from tests.fakes.models import ask, client_context, model_document

from agenttask.api.errors import ModelRejected, ModelUnavailable, RateLimited
from agenttask.plugin.llm import Completion
from agenttask_llm import agenttask_llm_clients

FACTORIES = agenttask_llm_clients()
PROMPT = "Grüße aus Köln"


@pytest.fixture
async def server():
    async with llm_server() as running:
        yield running


@pytest.fixture
async def openai_sdk(server):
    async with openai.AsyncOpenAI(base_url=server.endpoint, api_key="sk-1", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_sdk(server):
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="sk-1", max_retries=0) as client:
        yield client


@pytest.fixture
async def ours(server):
    async with aiohttp.ClientSession() as session:
        context = client_context(session, credential="sk-1")
        version = {"version": anthropic.AsyncAnthropic(api_key="x").default_headers["anthropic-version"]}
        yield SimpleNamespace(
            openai=FACTORIES["openai"](model_document("openai", endpoint=server.endpoint), context),
            anthropic=FACTORIES["anthropic"](model_document("anthropic", endpoint=server.url, parameters=version), context),
        )


def said(completion: Completion) -> tuple[object, ...]:
    return completion.text, completion.model, completion.usage.input_tokens, completion.usage.output_tokens


def asked(server) -> tuple[dict, dict]:
    """The bodies of the last two requests."""
    first, second = server.requests[-2:]
    return first, second


MESSAGES = [{"role": "user", "content": PROMPT}]


async def test_openais_own_client_reads_and_sends_what_ours_does(server, openai_sdk, ours):
    answer = await openai_sdk.chat.completions.create(model="weights-1", messages=MESSAGES, max_tokens=64)
    read = (answer.choices[0].message.content, answer.model, answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert read == said(await ours.openai.chat(ask(PROMPT)))
    theirs, mine = asked(server)
    assert theirs == mine
    assert server.headers[0]["Authorization"] == server.headers[1]["Authorization"] == "Bearer sk-1"


async def test_openais_own_client_streams_the_same_pieces(server, openai_sdk, ours):
    options = {"include_usage": True}
    stream = await openai_sdk.chat.completions.create(
        model="weights-1", messages=MESSAGES, max_tokens=64, stream=True, stream_options=options
    )
    pieces, usage = [], None
    async for chunk in stream:
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage = chunk.usage or usage
    mine = [chunk async for chunk in ours.openai.stream(ask(PROMPT))]
    assert pieces == [chunk.text for chunk in mine[:-1]]
    assert (usage.prompt_tokens, usage.completion_tokens) == (mine[-1].usage.input_tokens, mine[-1].usage.output_tokens)
    assert server.requests[0] == server.requests[1]


async def test_openais_own_client_reads_the_same_vectors(openai_sdk, ours):
    texts = ["a dog barks", "ships"]
    answer = await openai_sdk.embeddings.create(model="weights-1", input=texts, encoding_format="float")
    mine = await ours.openai.embed(texts)
    assert [vector.embedding for vector in answer.data] == [list(vector) for vector in mine.vectors]
    assert answer.usage.prompt_tokens == mine.usage.input_tokens


async def test_anthropics_own_client_reads_and_sends_what_ours_does(server, anthropic_sdk, ours):
    answer = await anthropic_sdk.messages.create(model="weights-1", messages=MESSAGES, max_tokens=64, system="be brief")
    read = (answer.content[0].text, answer.model, answer.usage.input_tokens, answer.usage.output_tokens)
    assert read == said(await ours.anthropic.chat(ask(PROMPT, system="be brief")))
    theirs, mine = asked(server)
    assert theirs == mine
    sdk, own = ({name.lower(): value for name, value in headers.items()} for headers in server.headers)
    assert sdk["authorization"].removeprefix("Bearer ") == own["x-api-key"] == "sk-1"  # the API takes both
    assert sdk["anthropic-version"] == own["anthropic-version"]


async def test_anthropics_own_client_streams_the_same_pieces(server, anthropic_sdk, ours):
    async with anthropic_sdk.messages.stream(model="weights-1", messages=MESSAGES, max_tokens=64) as stream:
        pieces = [piece async for piece in stream.text_stream]
        whole = await stream.get_final_message()
    mine = [chunk async for chunk in ours.anthropic.stream(ask(PROMPT))]
    assert pieces == [chunk.text for chunk in mine[:-1]]
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (mine[-1].usage.input_tokens, mine[-1].usage.output_tokens)
    assert whole.stop_reason == "end_turn"
    theirs, sent = asked(server)
    assert theirs == sent


STATUSES = pytest.mark.parametrize(
    ("status", "theirs", "mine"),
    [
        (400, "BadRequestError", ModelRejected),
        (401, "AuthenticationError", ModelRejected),
        (404, "NotFoundError", ModelRejected),
        (429, "RateLimitError", RateLimited),
        (500, "InternalServerError", ModelUnavailable),
        (503, "InternalServerError", ModelUnavailable),
    ],
)


@STATUSES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_openais_own_client_types_an_error_as_ours_does(server, openai_sdk, ours, status, theirs, mine, stream):
    server.behaviour.status = status
    server.behaviour.body = b'{"error": {"message": "so it is", "type": "some_error", "code": null}}'
    with pytest.raises(getattr(openai, theirs), match="so it is"):
        await openai_sdk.chat.completions.create(model="weights-1", messages=MESSAGES, stream=stream)
    with pytest.raises(mine, match="so it is") as caught:
        await (anext(ours.openai.stream(ask(PROMPT))) if stream else ours.openai.chat(ask(PROMPT)))
    assert type(caught.value) is mine


def _anthropics(status: int, name: str) -> type[Exception]:
    """503 and 529 have classes of their own there, outside of the package's names."""
    known: type[Exception] = getattr(anthropic, name)
    return anthropic.APIStatusError if status in (503, 529) else known


@STATUSES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_anthropics_own_client_types_an_error_as_ours_does(server, anthropic_sdk, ours, status, theirs, mine, stream):
    server.behaviour.status = status
    server.behaviour.body = b'{"type": "error", "error": {"type": "some_error", "message": "so it is"}}'
    with pytest.raises(_anthropics(status, theirs), match="so it is") as told:
        await anthropic_sdk.messages.create(model="weights-1", messages=MESSAGES, max_tokens=5, stream=stream)
    assert told.value.status_code == status
    with pytest.raises(mine, match="so it is") as caught:
        await (anext(ours.anthropic.stream(ask(PROMPT))) if stream else ours.anthropic.chat(ask(PROMPT)))
    assert type(caught.value) is mine


async def test_an_error_in_a_stream_ends_the_sdks_and_ours(server, openai_sdk, anthropic_sdk, ours):
    server.behaviour.events = ['event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n']
    with pytest.raises(openai.APIError, match="Overloaded"):
        async for _ in await openai_sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            pass
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async for _ in await anthropic_sdk.messages.create(model="m", messages=MESSAGES, max_tokens=5, stream=True):
            pass
    for client in (ours.openai, ours.anthropic):
        with pytest.raises(ModelUnavailable, match="Overloaded"):
            await anext(client.stream(ask(PROMPT)))
