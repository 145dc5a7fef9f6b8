"""A client behind a circuit breaker: while it is open, calls fail at once and cost the endpoint nothing."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from agenttask.api.errors import ModelRejected, ModelUnavailable, RateLimited
from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, LLMClient
from agenttask.runner.llm.breaker import Breaker, Permit, Refusal
from agenttask.runner.llm.stream import closing


class BreakerClient:
    """Only what shows that the endpoint does not work counts against it: no cancellation, no 429, no refused request."""

    def __init__(self, inner: LLMClient, name: str, breaker: Breaker) -> None:
        self._inner = inner
        self._name = name
        self._breaker = breaker

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        with self._admitted():
            return await self._inner.chat(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece."""
        with self._admitted() as permit:
            async with closing(self._inner.stream(request)) as chunks:
                async for chunk in chunks:
                    permit.answers()
                    yield chunk

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        with self._admitted():
            return await self._inner.embed(texts)

    async def aclose(self) -> None:
        """Close the client inside."""
        await self._inner.aclose()

    @contextmanager
    def _admitted(self) -> Iterator[Permit]:
        permit = self._breaker.admit()
        if isinstance(permit, Refusal):
            raise ModelUnavailable(_told(self._name, permit))
        try:
            yield permit
        except RateLimited:
            permit.let_go()
            raise
        except ModelUnavailable as error:
            permit.failed(str(error))
            raise
        except ModelRejected:
            permit.succeeded()
            raise
        except BaseException:
            permit.let_go()
            raise
        permit.succeeded()


def _told(name: str, refusal: Refusal) -> str:
    when = f"it is tried again in {refusal.again_in:.0f} s" if refusal.again_in else "one call is trying it now"
    return (
        f"model {name!r} is not asked: its circuit breaker has been open for {refusal.open_for:.0f} s, after {refusal.failed} of "
        f"{refusal.calls} calls failed; {when}. The last failure was: {refusal.cause}"
    )
