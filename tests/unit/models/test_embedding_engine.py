"""The engine of an embedding model: what queues while batches run is the next batch. No torch."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import Interrupted, ModelRejected, OutOfMemory
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Message
from agenttask_models.embedding import BATCHES, Embedded, EmbeddingEngine, share
from agenttask_models.torch_errors import DeviceLost


class Lengths:
    """A vector of a text is its length; `open` holds batches back, `bad` is a text that it cannot take."""

    def __init__(self, bad: str | None = None, error: Exception | None = None) -> None:
        self.batches: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self._bad = bad
        self._error = error

    def embed(self, texts):
        self.batches.append(list(texts))
        self.begun.set()
        self.open.wait(60)
        if self._bad in texts:
            raise self._error or ModelRejected(f"not {self._bad}")
        return [Embedded(vector=(float(len(text)),), tokens=len(text)) for text in texts]

    def count(self, texts):
        return [len(text) for text in texts]


@pytest.fixture
async def engine_of():
    made = []

    def make(model, workers=1) -> EmbeddingEngine:
        made.append(EmbeddingEngine("m", model, ThreadPoolExecutor(workers), workers=workers, max_batch=8, weights=5))
        return made[-1]

    yield make
    for engine in made:
        await engine.aclose()


async def test_each_text_gets_its_own_vector_and_tokens_are_counted(engine_of):
    found = await engine_of(Lengths()).embed(["a", "bbb", "cc"])
    assert found.vectors == ((1.0,), (3.0,), (2.0,))
    assert (found.usage.calls, found.usage.input_tokens) == (1, 6)


async def test_nothing_to_embed_is_nothing(engine_of):
    model = Lengths()
    assert (await engine_of(model).embed([])).vectors == ()
    assert model.batches == []


async def test_callers_that_come_while_a_batch_runs_share_the_next(engine_of):
    model = Lengths()
    model.open.clear()
    engine = engine_of(model)
    first = asyncio.ensure_future(engine.embed(["first"]))
    await asyncio.to_thread(model.begun.wait, 60)
    others = [asyncio.ensure_future(engine.embed([f"text {number}"])) for number in range(40)]
    await asyncio.sleep(0)
    model.open.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in model.batches] == [1, 8 * BATCHES, 8]


@pytest.mark.parametrize(
    ("waiting", "idle", "workers", "taken"),
    [
        pytest.param(1, 2, 2, 1, id="one"),
        pytest.param(10, 2, 2, 5, id="few are divided"),
        pytest.param(10, 1, 2, 8, id="few, and the other is busy: a full batch"),
        pytest.param(32, 1, 2, 16, id="many: half, whoever is busy"),
        pytest.param(1000, 2, 2, 32, id="too many"),
        pytest.param(20, 1, 1, 20, id="all for the only one"),
    ],
)
def test_a_batch_leaves_the_others_their_share(waiting, idle, workers, taken):
    assert share(waiting, idle=idle, workers=workers, max_batch=8) == taken


@given(st.integers(1, 10_000), st.integers(1, 16), st.integers(0, 15), st.integers(1, 64))
def test_a_batch_is_never_empty_nor_larger_than_it_may_be(waiting, workers, busy, max_batch):
    taken = share(waiting, idle=max(1, workers - busy), workers=workers, max_batch=max_batch)
    assert 1 <= taken <= min(waiting, max_batch * BATCHES)


async def test_batches_run_beside_one_another(engine_of):
    class Together(Lengths):
        both = threading.Barrier(2)

        def embed(self, texts):
            self.both.wait(60)
            return super().embed(texts)

    model = Together()
    engine = engine_of(model, workers=2)
    await asyncio.gather(*(engine.embed([f"text {number}"]) for number in range(16)))
    assert [len(batch) for batch in model.batches] == [8, 8]


async def test_a_call_that_comes_when_all_is_done_is_taken(engine_of):
    engine = engine_of(Lengths(), workers=2)
    for text in ("a", "bb", "ccc"):  # each comes in the very turn in which the one before is answered
        assert (await engine.embed([text])).vectors == ((float(len(text)),),)


async def test_who_has_left_is_not_embedded(engine_of):
    model = Lengths()
    model.open.clear()
    engine = engine_of(model)
    first = asyncio.ensure_future(engine.embed(["first"]))
    await asyncio.to_thread(model.begun.wait, 60)
    gone, stays = asyncio.ensure_future(engine.embed(["gone"])), asyncio.ensure_future(engine.embed(["stays"]))
    await asyncio.sleep(0)
    gone.cancel()
    first.cancel()  # its batch runs already; what it brings is dropped
    await asyncio.sleep(0)
    model.open.set()
    await stays
    assert model.batches == [["first"], ["stays"]]


async def test_an_error_is_for_those_of_its_batch_only(engine_of):
    engine = engine_of(Lengths(bad="bad"))
    with pytest.raises(ModelRejected, match="not bad"):
        await engine.embed(["good", "bad"])
    assert (await engine.embed(["good"])).vectors == ((4.0,),)


async def test_an_embedding_model_does_not_answer(engine_of):
    with pytest.raises(ModelRejected, match="does not answer"):
        await anext(engine_of(Lengths()).generate([Message(role="user", content="x")], Sampling(max_tokens=1)))


async def test_closing_fails_who_waits_and_refuses_who_comes(engine_of):
    model = Lengths()
    model.open.clear()
    engine = engine_of(model)
    waiting = [asyncio.ensure_future(engine.embed([text])) for text in ("runs", "also")]
    await asyncio.to_thread(model.begun.wait, 60)
    queued = asyncio.ensure_future(engine.embed(["queued"]))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(engine.aclose())
    await asyncio.sleep(0.01)
    model.open.set()
    await closing
    for call in (*waiting, queued):
        with pytest.raises(Interrupted):
            await call
    with pytest.raises(Interrupted):
        await engine.embed(["late"])


async def test_tokens_are_counted_beside_the_batches(engine_of):
    engine = engine_of(Lengths())
    assert await engine.count_tokens(["ab", ""]) == [2, 0]
    assert (engine.device, engine.memory_bytes, engine.failure) == ("cpu", 5, None)


@pytest.mark.parametrize("error", [OutOfMemory("full"), DeviceLost("broken")], ids=["memory", "device"])
async def test_an_engine_that_can_no_more_says_so(engine_of, error):
    engine = engine_of(Lengths(bad="bad", error=error))
    for text in ("bad", "good"):
        with pytest.raises(type(error)):
            await engine.embed([text])
    assert engine.failure is error
