"""One suite for engines on torch, in the runner's process and in one of their own: streaming, sampling, stops, places, lack of memory.

Over tiny random weights: answers are nonsense and the same each time.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.fakes.tiny_model import save_tiny_bert, save_tiny_llama

from agenttask.api.errors import DeviceUnavailable, Interrupted, ModelRejected, ModelUnavailable, OutOfMemory
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Engine, EngineConfig, MayFail, OccupiesMemory, Sampling
from agenttask.plugin.llm import CountsTokens, Message
from agenttask_models.isolated import IsolatedEngine
from agenttask_models.optimized import OptimizedFactory

pytestmark = [pytest.mark.torch, pytest.mark.asyncio(loop_scope="module")]
ISOLATIONS = ("Thread", "Process")
ENVIRON = {**os.environ, "AGENTTASK_CREDENTIAL_0": "secret", "HF_TOKEN": "secret"}


def config_of(path: Path, *, log=lambda _line: None, memory_bytes=2 << 30, **local) -> EngineConfig:
    return EngineConfig(local=LocalModel(path=str(path), **local), threads=1, memory_bytes=memory_bytes, log=log)


async def load(path: Path, device: str = "cpu", **more) -> Engine:
    return await OptimizedFactory(ENVIRON).create("tiny", device, config_of(path, **more))


@contextlib.asynccontextmanager
async def loaded(path: Path, **more) -> AsyncIterator[Engine]:
    engine = await load(path, **more)
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_tiny_llama(folder / "llama", initializer_range=0.5)
    save_tiny_bert(folder / "bert")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ISOLATIONS)
async def engine(request, weights) -> AsyncIterator[Engine]:
    async with loaded(weights / "llama", isolation=request.param, max_batch=4) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ISOLATIONS)
async def embedder(request, weights) -> AsyncIterator[Engine]:
    async with loaded(weights / "bert", isolation=request.param, task="Embedding", max_batch=4) as made:
        yield made


def said(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


async def answer(engine: Engine, text: str = "hello", **sampling) -> str:
    return "".join([chunk.text async for chunk in engine.generate(said(text), Sampling(**{"max_tokens": 24, **sampling}))])


async def test_answers_in_one_batch_are_those_of_one_at_a_time(engine):
    texts = [f"question {number}" for number in range(6)]
    alone = [await answer(engine, text) for text in texts]
    assert await asyncio.gather(*(answer(engine, text) for text in texts)) == alone
    assert len(set(alone)) > 1


async def test_a_long_beginning_in_common_changes_nothing(engine):
    texts = [f"{'the same beginning ' * 8}{number}" for number in range(3)]
    first = [await answer(engine, text) for text in texts]
    assert [await answer(engine, text) for text in texts] == first


async def test_pieces_come_before_the_end_and_the_last_tells_tokens(engine):
    chunks = [chunk async for chunk in engine.generate(said("hi"), Sampling(max_tokens=16))]
    assert len(chunks) > 2
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    assert (chunks[-1].finish_reason, chunks[-1].usage.output_tokens, chunks[-1].usage.calls) == ("length", 16, 1)
    assert chunks[-1].usage.input_tokens == len("user: hi\nassistant: ")


async def test_temperature_and_seed_are_each_requests_own(engine):
    wild = {"temperature": 1.5, "max_tokens": 20}
    greedy = await answer(engine)
    one, same, other, plain, cold = await asyncio.gather(
        answer(engine, seed=1, **wild),
        answer(engine, seed=1, **wild),
        answer(engine, seed=2, **wild),
        answer(engine),
        answer(engine, temperature=0.0),
    )
    assert one == same
    assert one != other
    assert (plain, cold) == (greedy, greedy)
    assert await answer(engine, seed=1, **wild) == one  # neither the batch nor what ran before matters
    assert await answer(engine, **wild) != await answer(engine, **wild)


async def test_a_stop_text_ends_the_answer_before_it(engine):
    whole = await answer(engine)
    stop = whole[4:7]
    assert await answer(engine, stop=(stop,)) == whole[: whole.find(stop)]


async def test_leaving_frees_the_place(engine):
    async with asyncio.timeout(120):
        for _ in range(8):  # twice the places
            chunks = engine.generate(said("x"), Sampling(max_tokens=200))
            await anext(chunks)
            await chunks.aclose()
        assert await answer(engine, max_tokens=4)


async def test_what_a_model_cannot_is_refused(engine, embedder):
    with pytest.raises(ModelRejected, match=r"the prompt has 3\d\d tokens, model 'tiny' takes 255"):
        await answer(engine, "x" * 300)
    with pytest.raises(ModelRejected, match="does not embed"):
        await engine.embed(["x"])
    with pytest.raises(ModelRejected, match="does not answer"):
        await answer(embedder)


async def test_tokens_are_counted(engine, embedder):
    for each in (engine, embedder):
        assert isinstance(each, CountsTokens)
        assert list(await each.count_tokens(["abc", "", "ä"])) == [3, 0, 2]
        assert list(await each.count_tokens([])) == []


async def test_what_is_held_is_told(engine):
    assert isinstance(engine, OccupiesMemory)
    assert isinstance(engine, MayFail)
    assert (engine.device, engine.failure) == ("cpu", None)
    assert engine.memory_bytes > 10_000


async def test_vectors_do_not_depend_on_what_is_embedded_beside_them(embedder):
    texts = ["a", "a longer text", "x" * 700, "", "a"]
    together = await embedder.embed(texts)
    alone = [await embedder.embed([text]) for text in texts]
    for vector, single in zip(together.vectors, alone, strict=True):
        assert list(vector) == pytest.approx(list(single.vectors[0]), abs=1e-5)
    assert together.usage.input_tokens == sum(each.usage.input_tokens for each in alone) >= 715
    assert sum(each * each for each in together.vectors[2]) == pytest.approx(1, abs=1e-4)
    assert (await embedder.embed([])).vectors == ()


# ---- loading


async def test_a_cache_larger_than_the_memory_is_told_before_the_kernel_kills(weights):
    with pytest.raises(OutOfMemory, match=r"local\.memory asks for 1024 MiB .* are left"):
        await load(weights / "llama", memory_bytes=1 << 29, memory="1Gi")


async def test_a_model_that_is_unloaded_loads_again(weights):
    async with loaded(weights / "llama") as engine:
        first = await answer(engine)
    with pytest.raises(Interrupted):
        await answer(engine)
    async with loaded(weights / "llama") as engine:
        assert await answer(engine) == first


async def test_a_device_that_is_not_there_is_told(weights):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceUnavailable, match="finds no CUDA device"):
        await load(weights / "llama", "cuda")
    lines: list[str] = []
    async with loaded(weights / "llama", log=lines.append):
        pass
    async with contextlib.aclosing(await load(weights / "llama", "auto", log=lines.append)) as engine:
        assert engine.device == "cpu"
    assert "runs on the processor: device 'cuda' is asked for" in lines[0]


async def test_a_model_without_attention_cannot_be_batched(tmp_path):
    from tests.fakes.tiny_model import CHAT_TEMPLATE, byte_tokenizer
    from transformers import MambaConfig, MambaForCausalLM

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelRejected, match="cannot be batched"):
        await load(tmp_path)


# ---- lack of memory while it runs


async def test_a_lack_of_memory_fails_what_runs_and_halves_the_cache_twice_at_most(weights):
    import torch

    async with loaded(weights / "llama") as engine:
        first = await answer(engine)
        model, blocks = engine._language.weights, engine._batch._plan.blocks
        works = model.forward

        def full(*_args, **_more):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

        for time in (1, 2):
            model.forward = full
            with pytest.raises(ModelUnavailable, match="broke off: CUDA out of memory"):
                await answer(engine)
            model.forward = works
            assert await answer(engine) == first
            assert engine._batch._plan.blocks == max(8, blocks // 2**time)
        model.forward = full
        with pytest.raises(ModelUnavailable):
            await answer(engine)
        with pytest.raises(OutOfMemory, match="broke off 3 times"):
            await answer(engine)
        assert isinstance(engine.failure, OutOfMemory)


async def test_embedding_takes_smaller_steps_where_memory_is_short(weights):
    import torch

    async with loaded(weights / "bert", task="Embedding", max_batch=4) as engine:
        texts = [f"text {number}" for number in range(8)]
        first = await engine.embed(texts)
        model, rows = engine._model._model, []
        works = model.forward

        def short(*args, **more):
            rows.append(len(more["input_ids"]))
            if rows[-1] > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return works(*args, **more)

        model.forward = short
        again = await engine.embed(texts)
        assert rows == [4, 2, 2, 2, 2]
        for one, other in zip(first.vectors, again.vectors, strict=True):
            assert list(one) == pytest.approx(list(other), abs=1e-5)
        rows.clear()
        model.forward = lambda *_args, **_more: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(OutOfMemory, match=r"found no memory .CUDA out of memory."):
            await engine.embed(["x"])
        assert isinstance(engine.failure, OutOfMemory)


# ---- a process of its own


@pytest_asyncio.fixture(loop_scope="module")
async def isolated(weights) -> AsyncIterator[IsolatedEngine]:
    async with loaded(weights / "llama", isolation="Process") as made:
        yield made


async def test_a_process_that_is_killed_fails_its_calls_and_is_started_again(isolated):
    first = await answer(isolated)
    call = isolated.generate(said("x"), Sampling(max_tokens=200))
    await anext(call)
    assert b"secret" not in await asyncio.to_thread(Path(f"/proc/{isolated.pid}/environ").read_bytes)
    os.kill(isolated.pid, signal.SIGKILL)
    with pytest.raises(ModelUnavailable, match="the process of model 'tiny' ended by SIGKILL; the kernel kills so where memory is short"):
        async for _ in call:
            pass
    assert await answer(isolated) == first
