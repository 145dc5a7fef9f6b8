"""A client that tries again what may succeed later, within the total time of all tries.

`limit` tries after the first, pauses that double up to `maxBackoffSeconds` with a random half left out, and the server's
Retry-After where it gives one: asking before that is a try thrown away, so no bound of ours shortens it. A wish beyond the
time that is left fails at once and says so: waiting would only end later in the same way. A stream is tried again only
until its first piece is there: later, the caller has seen it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from agenttask.api.document import ModelDocument
from agenttask.api.errors import ModelUnavailable, RateLimited
from agenttask.plugin.llm import ChatRequest, Chunk, Completion, Embeddings, LLMClient
from agenttask.runner.llm.stopwatch import Stopwatch, Watch
from agenttask.runner.llm.stream import closing

_FIRST_PAUSE_SECONDS = 0.5
_DOUBLINGS = 20
"""More leaves every cap behind; 2.0 ** 2000 is an error."""
T = TypeVar("T")


class RetryingClient:
    """Tries again; `random` gives numbers from 0 to 1."""

    def __init__(
        self,
        inner: LLMClient,
        model: ModelDocument,
        *,
        stopwatch: Stopwatch,
        random: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._model = model
        self._stopwatch = stopwatch
        self._random = random
        self._log = log

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        completion, _ = await self._tried(lambda: self._inner.chat(request))
        return completion

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece."""
        (chunks, first), tries = await self._tried(lambda: _begun(self._inner.stream(request)))
        async with closing(chunks):
            if first is None:
                return
            yield first
            if tries.number == 1:  # the client's own total time bounds it
                async for chunk in chunks:
                    yield chunk
                return
            while (piece := await tries.within(lambda: _next(chunks))) is not None:
                yield piece

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        embeddings, _ = await self._tried(lambda: self._inner.embed(texts))
        return embeddings

    async def aclose(self) -> None:
        """Close the client inside."""
        await self._inner.aclose()

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> tuple[T, "_Tries"]:
        """What the call gives, and how many tries it took."""
        with self._stopwatch.running() as watch:
            tries = _Tries(self._model, watch, self._random, self._log)
            try:
                return await call(), tries
            except ModelUnavailable as error:
                failures = [error]
            # The retries' machinery is made, and imported, only when there is something to retry: it costs more than the rest of the way.
            import stamina
            from stamina.instrumentation import set_on_retry_hooks

            # Retries are told by our own lines, with the model's name; the library's hooks, which are the process's, would repeat each.
            set_on_retry_hooks(())
            try:
                async for attempt in stamina.retry_context(on=tries.pause, attempts=None, timeout=None):
                    with attempt:
                        if failures:
                            raise failures.pop()
                        return await tries.within(call), tries
            except ModelUnavailable as error:
                raise tries.told(error) from error
        raise AssertionError("retry_context ends by an answer or an error")


class _Tries:
    """The tries of one call."""

    def __init__(self, model: ModelDocument, watch: Watch, random: Callable[[], float], log: Callable[[str], None]) -> None:
        self._model = model
        self._watch = watch
        self._random = random
        self._log = log
        self.number = 1
        self._why_no_more = ""

    @property
    def _left(self) -> float:
        return self._model.timeouts.total_seconds - self._watch.seconds()

    def pause(self, error: Exception) -> bool | float:
        """Seconds until the next try; False: no further try."""
        retry, total = self._model.retry, self._model.timeouts.total_seconds
        if not isinstance(error, ModelUnavailable) or self.number > retry.limit:
            return False
        wish, left = error.retry_after, self._left
        if wish is not None and wish > left:
            self._why_no_more = (
                f"its Retry-After of {wish:.0f} s is beyond the {max(0.0, left):.0f} s that are left of totalSeconds {total}"
            )
            return False
        if wish is None:
            full = min(retry.max_backoff_seconds, _FIRST_PAUSE_SECONDS * 2.0 ** min(self.number - 1, _DOUBLINGS))
            seconds = full * (1 - self._random() / 2)
        else:  # a little later, each at its own time: all who were refused were told the same second
            seconds = wish * (1 + self._random() / 10)
        if seconds >= left:
            self._why_no_more = f"totalSeconds {total} of all tries leave no time for another"
            return False
        self._log(f"try {self.number} of {retry.limit + 1} failed, the next is in {seconds:.1f} s: {error}")
        self.number += 1
        return seconds

    async def within(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call, ended where the total time of all tries ends."""
        try:
            async with asyncio.timeout(max(0.0, self._left)) as scope:
                with self._watch.stopping(scope):
                    return await call()
        except TimeoutError as error:
            if not scope.expired():
                raise
            total = self._model.timeouts.total_seconds
            raise ModelUnavailable(
                f"model {self._model.name!r} did not answer within totalSeconds {total} of all tries; this was try {self.number}"
            ) from error

    def told(self, error: ModelUnavailable) -> ModelUnavailable:
        """The last error, with what was tried."""
        parts = [self._why_no_more] if self._why_no_more else []
        if self.number > 1:
            parts.insert(0, f"after {self.number} tries in {self._watch.seconds():.1f} s")
        message = f"{error} ({'; '.join(parts)})" if parts else str(error)
        kind = RateLimited if isinstance(error, RateLimited) else ModelUnavailable
        return kind(message, retry_after=error.retry_after)


async def _begun(chunks: AsyncIterator[Chunk]) -> tuple[AsyncIterator[Chunk], Chunk | None]:
    """The stream and its first piece."""
    try:
        return chunks, await _next(chunks)
    except BaseException:
        async with closing(chunks):
            raise


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)
