"""How many calls an AgentModel was asked, and how long they took: what the controller estimates its load from.

It stands next to the client: each try is a call, and the wait for limits is no part of it. Cancelled calls count too: the endpoint
was busy with them.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, LLMClient
from agenttask.runner.llm.stream import closing


class Meter:
    """Ended calls and their seconds, all together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.calls = 0
        self.seconds = 0.0

    @contextmanager
    def call(self) -> Iterator[None]:
        """One, from its beginning to its end."""
        began = self._clock()
        try:
            yield
        finally:
            self.calls += 1
            self.seconds += self._clock() - began


class MeteredClient:
    """A client whose calls are counted."""

    def __init__(self, inner: LLMClient, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        with self._meter.call():
            return await self._inner.chat(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece; the call lasts until its end."""
        with self._meter.call():
            async with closing(self._inner.stream(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        with self._meter.call():
            return await self._inner.embed(texts)

    async def aclose(self) -> None:
        """Close the client inside."""
        await self._inner.aclose()
