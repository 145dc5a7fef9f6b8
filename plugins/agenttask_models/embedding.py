"""The engine of an embedding model: a batch is whatever queued while the last ones ran, so nobody waits for others.

Batches run on a few threads, each alone on one processor. Beside one batch on as many threads of the tensor library that was
measured to be quicker by a sixth, and to keep its rate where other work takes a processor: the library's threads wait for one
another after every operation. The model sorts a batch by length and caps each step by rows and tokens (embedding_model.py).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from msgspec import Struct

from agenttask.api.errors import AgentTaskError, Interrupted, ModelRejected, OutOfMemory
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Chunk, Embeddings, Message, Usage
from agenttask_models.torch_errors import DeviceLost

BATCHES = 4
"""Batches of `local.maxBatch` texts that are taken at once, so that sorting by length has something to sort."""


def share(waiting: int, *, idle: int, workers: int, max_batch: int) -> int:
    """How many of the texts that wait the next batch takes, where `idle` of the workers have none, itself among them.

    What would not fill a batch for each idle worker is divided among those; of more, each gets its part of all workers.
    """
    return min(max_batch * BATCHES, max(-(-waiting // workers), min(max_batch, -(-waiting // idle))))


class Embedded(Struct, frozen=True, kw_only=True):
    """A text's vector, and how many tokens it had."""

    vector: Sequence[float]
    tokens: int


class Embedder(Protocol):
    """A model that embeds, blocking; several threads may call it at once."""

    def embed(self, texts: Sequence[str]) -> Sequence[Embedded]:
        """One result a text."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...


class _Waiting(Struct, frozen=True, kw_only=True):
    text: str
    result: "asyncio.Future[Embedded]"


class EmbeddingEngine:
    """`Engine` of an embedding model; `threads` are the engine's own, and run `workers` batches at once."""

    def __init__(
        self,
        name: str,
        model: Embedder,
        threads: ThreadPoolExecutor,
        *,
        workers: int = 1,
        max_batch: int = 16,
        device: str = "cpu",
        weights: int = 0,
    ) -> None:
        self._name = name
        self._model: Embedder | None = model
        self._threads = threads
        self._most_workers = workers
        self._max_batch = max_batch
        self._waiting: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._running = 0
        """Batches that the threads have."""
        self.device = device
        self.memory_bytes = weights
        self.failure: AgentTaskError | None = None
        """Set when the model can embed no more, whatever it is given."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        model = self._open()
        loop = asyncio.get_running_loop()
        mine = [_Waiting(text=text, result=loop.create_future()) for text in texts]
        self._waiting.extend(mine)
        for _ in range(min(len(mine), self._most_workers - len(self._workers))):
            self._workers.add(loop.create_task(self._work(model), name=f"embed {self._name}"))
        found = await asyncio.gather(*(waiting.result for waiting in mine))
        usage = Usage(calls=1, input_tokens=sum(each.tokens for each in found))
        return Embeddings(vectors=tuple(each.vector for each in found), usage=usage)

    async def _work(self, model: Embedder) -> None:
        """Batch after batch, until nobody waits."""
        try:
            while batch := self._next_batch():
                self._running += 1
                try:
                    await self._run(model, batch)
                finally:
                    self._running -= 1
        finally:
            self._workers.discard(asyncio.current_task())  # at once: who comes next must see that it takes a new one

    async def _run(self, model: Embedder, batch: Sequence[_Waiting]) -> None:
        """Give each text of a batch its vector, or all the batch's error."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, model.embed, [waiting.text for waiting in batch])
            for waiting, each in zip(batch, found, strict=True):
                if not waiting.result.done():
                    waiting.result.set_result(each)
        except asyncio.CancelledError:
            _fail(batch, self._closed())
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            if isinstance(error, DeviceLost | OutOfMemory):
                self.failure = error
            _fail(batch, error)

    def _next_batch(self) -> list[_Waiting]:
        """The next texts whose callers have not left."""
        batch: list[_Waiting] = []
        most = share(len(self._waiting), idle=self._most_workers - self._running, workers=self._most_workers, max_batch=self._max_batch)
        while self._waiting and len(batch) < most:
            waiting = self._waiting.popleft()
            if not waiting.result.done():
                batch.append(waiting)
        return batch

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """By the model's own tokenizer."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._open().count, tuple(texts))

    async def generate(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:  # noqa: ARG002 - the protocol's
        """An embedding model has nothing to say."""
        raise ModelRejected(f"model {self._name!r} embeds and does not answer; name one whose local.task is Chat")
        yield Chunk()  # makes it a generator, as the protocol wants

    async def aclose(self) -> None:
        """Stop, and let go of threads and weights."""
        self._model = None
        for worker in tuple(self._workers):
            worker.cancel()
        _fail(self._waiting, self._closed())
        self._waiting.clear()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _open(self) -> Embedder:
        if self._model is None:
            raise self._closed()
        if self.failure is not None:
            raise self.failure
        return self._model

    def _closed(self) -> Interrupted:
        return Interrupted(f"model {self._name!r} is closed: the run is ending")


def _fail(batch: Iterable[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.result.done():
            waiting.result.set_exception(error)
