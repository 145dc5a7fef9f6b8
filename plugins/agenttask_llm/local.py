"""`local`: weights in the runner's own process, through the run's engines (plugin/engine.py)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Engine, Sampling
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, CountsTokens, Embeddings, Usage
from agenttask_llm.settings import field_of, known_parameters

_SOURCES = "`package`, `path`, `persistentVolumeClaim` and `hub`"


def sampling_of(request: ChatRequest) -> Sampling:
    """What of a request concerns the engine."""
    return Sampling(max_tokens=request.max_tokens, temperature=request.temperature, seed=request.seed, stop=request.stop)


class LocalClient:
    """One local model. `timeouts.totalSeconds` bounds a call; loading the weights, once a run, is not counted."""

    def __init__(self, model: ModelDocument, context: ClientContext) -> None:
        if model.local is None:
            raise InvalidTask(field_of(model, "local"), f"client 'local' needs to know where the weights are: {_SOURCES}")
        local = model.local
        if sum(source is not None for source in (local.package, local.path, local.persistent_volume_claim, local.hub)) != 1:
            raise InvalidTask(field_of(model, "local"), f"exactly one of {_SOURCES} is needed")
        known_parameters(model, ())
        self._model = model
        self._local: LocalModel = model.local
        self._engines = context.engines

    async def chat(self, request: ChatRequest) -> Completion:
        """The stream, put together."""
        pieces: list[str] = []
        usage, finish_reason, name = Usage(calls=1), "stop", self._model.model
        async with contextlib.aclosing(self.stream(request)) as chunks:  # cancelled, the engine is free at once
            async for chunk in chunks:
                pieces.append(chunk.text)
                usage = chunk.usage or usage
                finish_reason = chunk.finish_reason or finish_reason
        return Completion(text="".join(pieces), usage=usage, finish_reason=finish_reason, model=name)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The engine's pieces; it stays loaded until the answer ends."""
        async with self._engine() as engine:
            deadline = asyncio.get_running_loop().time() + self._model.timeouts.total_seconds
            chunks = engine.generate(request.messages, sampling_of(request))
            try:
                while True:
                    try:
                        async with asyncio.timeout_at(deadline):
                            chunk = await anext(chunks)
                    except StopAsyncIteration:
                        return
                    except TimeoutError as error:
                        raise self._late() from error
                    yield Chunk(text=chunk.text, usage=chunk.usage, finish_reason=chunk.finish_reason, model=self._model.model)
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The engine's vectors."""
        async with self._engine() as engine:
            try:
                async with asyncio.timeout(self._model.timeouts.total_seconds):
                    return await engine.embed(texts)
            except TimeoutError as error:
                raise self._late() from error

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """By the model's own tokenizer.

        Raises:
            ModelRejected: the model's factory makes engines that do not count.
        """
        async with self._engine() as engine:
            if not isinstance(engine, CountsTokens):
                raise ModelRejected(f"model {self._model.name!r}: factory {self._local.factory!r} makes engines that do not count tokens")
            return await engine.count_tokens(texts)

    async def aclose(self) -> None:
        """The engine is the run's."""

    def _engine(self) -> AbstractAsyncContextManager[Engine]:
        return self._engines.lease(self._model.model, self._local)

    def _late(self) -> ModelUnavailable:
        return ModelUnavailable(f"model {self._model.name!r} did not answer within {self._model.timeouts.total_seconds} s (totalSeconds)")
