"""The local client, over an engine that is scripted."""

import asyncio
import contextlib

import pytest

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.api.model import LocalModel, Timeouts
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Embeddings, Message, Usage
from agenttask_llm.local import LocalClient

LOCAL = LocalModel(path="/models/x")
REQUEST = ChatRequest(messages=(Message(role="user", content="Hi"),), max_tokens=7, temperature=0.5, seed=3, stop=("x",))


class Engine:
    def __init__(self, *, stall=False):
        self.stall = stall
        self.closed = False
        self.asked = []

    async def generate(self, messages, sampling):
        self.asked.append((messages, sampling))
        try:
            yield Chunk(text="Hello ")
            if self.stall:
                await asyncio.sleep(3600)
            yield Chunk(text="you")
            yield Chunk(usage=Usage(calls=1, input_tokens=2, output_tokens=2), finish_reason="stop")
        finally:
            self.closed = True

    async def embed(self, texts):
        if self.stall:
            await asyncio.sleep(3600)
        return Embeddings(vectors=tuple((1.0, 0.0) for _ in texts), usage=Usage(calls=1))


class Engines:
    def __init__(self, engine):
        self._engine = engine
        self.asked = []
        self.leases = 0

    @contextlib.asynccontextmanager
    async def lease(self, model_id, local):
        self.asked.append((model_id, local))
        self.leases += 1
        try:
            yield self._engine
        finally:
            self.leases -= 1


def client_of(engine, **document):
    engines = Engines(engine)
    context = ClientContext(credential=None, session=lambda: None, engines=engines)
    model = ModelDocument(**{"name": "m", "client": "local", "model": "smol", "local": LOCAL, **document})
    return LocalClient(model, context), engines


async def test_pieces_are_put_together_and_counted():
    engine = Engine()
    client, engines = client_of(engine)
    completion = await client.chat(REQUEST)
    assert (completion.text, completion.usage.output_tokens, completion.model) == ("Hello you", 2, "smol")
    assert engines.asked == [("smol", LOCAL)]
    assert engine.asked == [(REQUEST.messages, Sampling(max_tokens=7, temperature=0.5, seed=3, stop=("x",)))]


async def test_an_answer_that_stalls_ends_at_the_total_time():
    engine = Engine(stall=True)
    client, _ = client_of(engine, timeouts=Timeouts(total_seconds=1))
    with pytest.raises(ModelUnavailable, match=r"within 1 s \(totalSeconds\)"):
        await client.chat(REQUEST)
    assert engine.closed
    with pytest.raises(ModelUnavailable):
        await client.embed(["x"])


async def test_leaving_closes_the_engines_answer():
    engine = Engine(stall=True)
    client, _ = client_of(engine)
    stream = client.stream(REQUEST)
    assert (await anext(stream)).text == "Hello "
    await stream.aclose()
    assert engine.closed


async def test_vectors_come_from_the_engine():
    client, _ = client_of(Engine())
    assert (await client.embed(["a", "b"])).vectors == ((1.0, 0.0), (1.0, 0.0))
    await client.aclose()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"local": None}, "AgentModel 'm' spec.local: client 'local' needs"),
        ({"local": LocalModel()}, "exactly one of `package`, `path`, `persistentVolumeClaim` and `hub`"),
        ({"local": LocalModel(package="a", path="/b")}, "exactly one of `package`, `path`, `persistentVolumeClaim` and `hub`"),
        ({"parameters": {"x": "1"}}, "it has: none"),
    ],
)
def test_a_model_that_is_not_described_is_refused(document, message):
    with pytest.raises(InvalidTask, match=message):
        client_of(Engine(), **document)


async def test_an_engine_is_lent_until_the_answer_ends_also_where_the_caller_leaves():
    client, engines = client_of(Engine(stall=True))
    call = asyncio.ensure_future(client.chat(REQUEST))
    while not engines.leases:  # noqa: ASYNC110 - turns of this loop
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert engines.leases == 0


async def test_tokens_are_counted_by_engines_that_can():
    class Counting(Engine):
        async def count_tokens(self, texts):
            return [len(text) for text in texts]

    client, engines = client_of(Counting())
    assert list(await client.count_tokens(["a", "bcd"])) == [1, 3]
    assert engines.leases == 0
    plain, _ = client_of(Engine())
    with pytest.raises(ModelRejected, match="'optimized' makes engines that do not count"):
        await plain.count_tokens(["a"])
