"""`local`: weights in the runner's own process, through the run's engines (plugin/engine.py)."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelUnavailable
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings, Usage
from agenttask_llm.settings import field_of, known_parameters


def sampling_of(request: ChatRequest) -> Sampling:
    """What of a request concerns the engine."""
    return Sampling(max_tokens=request.max_tokens, temperature=request.temperature, seed=request.seed, stop=request.stop)


class LocalClient:
    """One local model. `timeouts.totalSeconds` bounds a call; loading the weights, once a run, is not counted."""

    def __init__(self, model: ModelDocument, context: ClientContext) -> None:
        if model.local is None:
            raise InvalidTask(field_of(model, "local"), "client 'local' needs to know where the weights are: `package` or `path`")
        if (model.local.package is None) == (model.local.path is None):
            raise InvalidTask(field_of(model, "local"), "exactly one of `package` and `path` is needed")
        known_parameters(model, ())
        self._model = model
        self._local: LocalModel = model.local
        self._engines = context.engines

    async def chat(self, request: ChatRequest) -> Completion:
        """The stream, put together."""
        pieces: list[str] = []
        usage, finish_reason, name = Usage(calls=1), "stop", self._model.model
        async for chunk in self.stream(request):
            pieces.append(chunk.text)
            usage = chunk.usage or usage
            finish_reason = chunk.finish_reason or finish_reason
        return Completion(text="".join(pieces), usage=usage, finish_reason=finish_reason, model=name)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The engine's pieces."""
        engine = await self._engines.engine(self._model.model, self._local)
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
        engine = await self._engines.engine(self._model.model, self._local)
        try:
            async with asyncio.timeout(self._model.timeouts.total_seconds):
                return await engine.embed(texts)
        except TimeoutError as error:
            raise self._late() from error

    async def aclose(self) -> None:
        """The engine is the run's."""

    def _late(self) -> ModelUnavailable:
        return ModelUnavailable(f"model {self._model.name!r} did not answer within {self._model.timeouts.total_seconds} s (totalSeconds)")
