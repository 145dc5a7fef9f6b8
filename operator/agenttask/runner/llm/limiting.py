"""A client that asks no more of its endpoint than it may: calls at once, requests a minute, tokens a minute.

A call that would be too many waits for its turn, in the order of coming, and says so in the log after a second. The
time it waits is none of its own (`stopwatch.py`). In a pod the limits are a share of the AgentModel's, which the controller divides
anew while calls run and wait: `ModelLimits.change`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from agenttask.api.model import Limits
from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, LLMClient, Usage
from agenttask.runner.llm.bucket import Bucket
from agenttask.runner.llm.concurrency import Concurrency
from agenttask.runner.llm.stopwatch import Stopwatch
from agenttask.runner.llm.stream import closing

_QUIET_SECONDS = 1.0
_BYTES_A_TOKEN = 4
"""What tokenizers average on English; only an estimate until the endpoint tells."""


class Reservation:
    """What one call has taken of its limits."""

    def __init__(self, tokens: Bucket, estimate: float) -> None:
        self._tokens = tokens
        self._estimate = estimate

    def used(self, usage: Usage) -> None:
        """Put the estimate right; without a count it stands."""
        real = usage.input_tokens + usage.output_tokens
        if real:
            self._tokens.put_back(self._estimate - real)
            self._estimate = real


class ModelLimits:
    """The limits of one AgentModel, for all of its calls in this process."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._calls = Concurrency(limits.concurrent_calls)
        self._requests = Bucket(limits.requests_per_minute, clock=clock)
        self._tokens = Bucket(limits.tokens_per_minute, clock=clock)

    def change(self, limits: Limits) -> None:
        """From now on, for calls that wait too, which keep their order; those under way end as they are."""
        self.limits = limits
        self._calls.change(limits.concurrent_calls)
        self._requests.change(limits.requests_per_minute)
        self._tokens.change(limits.tokens_per_minute)

    async def enter(self, tokens: int) -> Reservation:
        """Wait for a turn. The place among the concurrent calls comes first: what a bucket gives is to be used at once."""
        await self._calls.acquire()
        requests = 0.0
        try:
            requests = await self._requests.take(1)
            taken = await self._tokens.take(tokens)
        except BaseException:
            if requests:
                self._requests.put_back(requests)
            self.leave()
            raise
        return Reservation(self._tokens, taken)

    def leave(self) -> None:
        """The call is over."""
        self._calls.release()


class LimitedClient:
    """Waits for its turn."""

    def __init__(self, inner: LLMClient, limits: ModelLimits, *, stopwatch: Stopwatch, log: Callable[[str], None]) -> None:
        self._inner = inner
        self._limits = limits
        self._stopwatch = stopwatch
        self._log = log

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        async with self._turn(chat_tokens(request)) as reservation:
            completion = await self._inner.chat(request)
            reservation.used(completion.usage)
            return completion

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece; the turn lasts until its end."""
        async with self._turn(chat_tokens(request)) as reservation, closing(self._inner.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.usage is not None:
                    reservation.used(chunk.usage)
                yield chunk

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        async with self._turn(sum(map(_tokens, texts))) as reservation:
            embeddings = await self._inner.embed(texts)
            reservation.used(embeddings.usage)
            return embeddings

    async def aclose(self) -> None:
        """Close the client inside."""
        await self._inner.aclose()

    @asynccontextmanager
    async def _turn(self, tokens: int) -> AsyncIterator[Reservation]:
        saying = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._say)
        try:
            with self._stopwatch.paused():
                reservation = await self._limits.enter(tokens)
        finally:
            saying.cancel()
        try:
            yield reservation
        finally:
            self._limits.leave()

    def _say(self) -> None:
        limits = self._limits.limits
        given = {
            "concurrentCalls": limits.concurrent_calls,
            "requestsPerMinute": limits.requests_per_minute,
            "tokensPerMinute": limits.tokens_per_minute,
        }
        self._log(f"a call waits for its limits ({', '.join(f'{name} {value}' for name, value in given.items() if value is not None)})")


def chat_tokens(request: ChatRequest) -> int:
    """An estimate of what a chat may take: the prompt by its length, the answer by its bound."""
    return sum(_tokens(message.content) for message in request.messages) + request.max_tokens


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN)
