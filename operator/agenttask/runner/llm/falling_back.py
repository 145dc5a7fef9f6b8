"""A client that asks other models where its own cannot answer now: unavailable, rate limited, or its breaker open.

What a model refuses is not asked of another: the request is at fault. Embeddings stay with their model, whatever happens:
vectors of another one mean nothing beside them.
"""

from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
from msgspec import Struct

from agenttask.api.errors import ModelRejected, ModelUnavailable, RateLimited
from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, LLMClient
from agenttask.runner.llm.stream import closing


class Fallback(Struct, frozen=True, kw_only=True):
    """An AgentModel by name, and its client."""

    name: str
    client: LLMClient


class FallbackClient:
    """Asks the first, and where that is unavailable the others in their order."""

    def __init__(self, first: Fallback, others: Sequence[Fallback], *, log: Callable[[str], None]) -> None:
        self._first = first
        self._others = tuple(others)
        self._log = log

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer; `agent_model` tells whose it is."""
        failures: list[tuple[str, ModelUnavailable | ModelRejected]] = []
        for model in (self._first, *self._others):
            try:
                completion = await model.client.chat(request)
            except (ModelUnavailable, ModelRejected) as error:
                self._failed(model, error, failures)
            else:
                return msgspec.structs.replace(completion, agent_model=model.name)
        raise self._final(failures)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece; once the first is there, it is this model's answer or none."""
        failures: list[tuple[str, ModelUnavailable | ModelRejected]] = []
        for model in (self._first, *self._others):
            begun = False
            try:
                async with closing(model.client.stream(request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield msgspec.structs.replace(chunk, agent_model=model.name)
            except (ModelUnavailable, ModelRejected) as error:
                if begun:
                    raise
                self._failed(model, error, failures)
            else:
                return
        raise self._final(failures)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text, of the first model only."""
        return await self._first.client.embed(texts)

    async def aclose(self) -> None:
        """Close the first; the others belong to their own names too, and whoever made them closes them."""
        await self._first.client.aclose()

    def _failed(
        self, model: Fallback, error: ModelUnavailable | ModelRejected, failures: list[tuple[str, ModelUnavailable | ModelRejected]]
    ) -> None:
        """Note it and go on, unless the first model refused the request: what a fallback refuses, the next may take."""
        if isinstance(error, ModelRejected) and not failures:
            raise error
        failures.append((model.name, error))
        if len(failures) <= len(self._others):
            self._log(f"asks {self._others[len(failures) - 1].name!r} in place of {model.name!r}: {error}")

    def _final(self, failures: Sequence[tuple[str, ModelUnavailable | ModelRejected]]) -> ModelUnavailable:
        """The first model's error, which says whether trying again may help, with what the others said."""
        first = failures[0][1]
        assert isinstance(first, ModelUnavailable)
        others = "; ".join(f"{name!r}: {error}" for name, error in failures[1:])
        message = f"{first}; its fallbacks failed too: {others}"
        kind = RateLimited if isinstance(first, RateLimited) else ModelUnavailable
        return kind(message, retry_after=first.retry_after)
