"""The engine of a language model: answers share one batch, pieces come back to the loop, leaving frees the place.

Torch runs in the batch's own thread only; conversations become tokens in a second one, text is put together on the loop.
A batch that ends with an error fails its answers as retryable, and the next call makes a new one with half the cache, twice.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from agenttask.api.errors import AgentTaskError, Interrupted, ModelRejected, ModelUnavailable, OutOfMemory, RateLimited
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Chunk, Embeddings, Message, Usage
from agenttask_models.batch import Result
from agenttask_models.pieces import TextPieces
from agenttask_models.stops import StopTexts
from agenttask_models.torch_errors import DeviceLost, is_lost_device, is_short_of_memory

T = TypeVar("T")
WAITING = 64
"""Answers that may wait for a place; more are told to come again."""
REBUILDS = 2
_LOOK_SECONDS = 5.0
"""How often a silent batch is asked whether it lives; it tells by itself, but for a bug."""


class Language(Protocol):
    """The model's words: messages to tokens, tokens to text. Blocking, but for `pieces`."""

    window: int
    stops: tuple[int, ...]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation."""
        ...

    def pieces(self) -> TextPieces:
        """For one answer."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...


class Batching(Protocol):
    """The running batch (batch.py)."""

    @property
    def tokens(self) -> int:
        """How many the cache holds."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What the cache takes."""
        ...

    def submit(
        self, request: str, prompt: list[int], *, max_tokens: int, temperature: float | None, seed: int, handler: Callable[[Result], None]
    ) -> bool:
        """Add a request; False: the batch has ended."""
        ...

    def cancel(self, request: str) -> None:
        """Free its place."""
        ...

    def problem(self) -> BaseException | None:
        """What ended it."""
        ...

    def settle(self) -> BaseException | None:
        """What ended it, once it has; blocking."""
        ...

    def rebuild(self) -> None:
        """Anew, with half the cache; blocking."""
        ...

    def close(self) -> None:
        """Stop and free; blocking."""
        ...


class TextEngine:
    """`Engine` of a text model; `thread` has one worker, in which the model was loaded, and is the engine's own."""

    def __init__(
        self, name: str, language: Language, batch: Batching, thread: ThreadPoolExecutor, *, slots: int, device: str, weights: int
    ) -> None:
        self._name = name
        self._language: Language | None = language
        self._batch = batch
        self._thread = thread
        self._most = slots + WAITING
        self._weights = weights
        self._numbers = itertools.count()
        self._asked = 0
        self._rebuilding = asyncio.Lock()
        self._rebuilds = 0
        self.device = device
        self.failure: AgentTaskError | None = None
        """Set when another batch would be of no use."""

    @property
    def memory_bytes(self) -> int:
        """Weights and the full cache."""
        return self._weights + self._batch.memory_bytes

    async def generate(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece. Leaving early frees its place before the next token."""
        language = self._open()
        if self._asked >= self._most:
            raise RateLimited(f"model {self._name!r} has {self._asked} answers to give; ask later, or raise local.maxBatch", retry_after=1)
        self._asked += 1
        try:
            prompt = await self._on_thread(language.prompt, tuple(messages))
            await self._ready()
            async with contextlib.aclosing(self._answer(language, prompt, sampling)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._asked -= 1

    async def _answer(self, language: Language, prompt: list[int], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        results: asyncio.Queue[Result] = asyncio.Queue()
        request, said, finished = f"r{next(self._numbers)}", 0, False
        pieces, stops, reason = language.pieces(), StopTexts(sampling.stop), "length"
        accepted = self._batch.submit(
            request,
            prompt,
            max_tokens=min(sampling.max_tokens, self._room(language, prompt)),
            temperature=sampling.temperature,
            seed=secrets.randbits(31) if sampling.seed is None else sampling.seed,
            handler=results.put_nowait,
        )
        if not accepted:
            raise self._ended(None)
        try:
            while not finished and not stops.met:
                result = await self._next(results)
                if result.error is not None:
                    finished = True
                    raise self._ended(result.error)
                finished, text = result.is_finished(), ""
                for token in result.generated_tokens[said:]:
                    said += 1
                    if token in language.stops:
                        reason = "stop"
                    else:
                        text += stops.add(pieces.add(token))
                if text:
                    yield Chunk(text=text)
        finally:
            if not finished:
                self._batch.cancel(request)
        rest = stops.add(pieces.end()) + stops.end()
        if rest:
            yield Chunk(text=rest)
        usage = Usage(calls=1, input_tokens=len(prompt), output_tokens=said)
        yield Chunk(usage=usage, finish_reason="stop" if stops.met else reason)

    async def _next(self, results: "asyncio.Queue[Result]") -> Result:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await results.get()
            except TimeoutError:
                if self._batch.problem() is not None:
                    raise self._ended(None) from None

    def _room(self, language: Language, prompt: list[int]) -> int:
        """Tokens that an answer may have."""
        window, cache = language.window, self._batch.tokens
        if len(prompt) >= window:
            raise ModelRejected(f"the prompt has {len(prompt)} tokens, model {self._name!r} takes {window - 1}; shorten it")
        if len(prompt) >= cache:
            raise ModelRejected(
                f"the prompt has {len(prompt)} tokens, the attention cache of model {self._name!r} holds {cache}; shorten it, or raise "
                "local.memory"
            )
        return min(window, cache) - len(prompt)

    async def _ready(self) -> None:
        """A batch that runs; one that has ended is made anew, by one caller for all."""
        async with self._rebuilding:
            self._open()
            if self._batch.problem() is None or (problem := await self._on_thread(self._batch.settle)) is None:
                return
            if is_lost_device(problem):
                self.failure = DeviceLost(f"model {self._name!r} lost its device: {problem}; the process must be started anew")
            elif self._rebuilds == REBUILDS:
                kind = OutOfMemory if is_short_of_memory(problem) else ModelUnavailable
                self.failure = kind(
                    f"model {self._name!r} broke off {REBUILDS + 1} times, with less cache each time: {_first_line(problem)}"
                )
            if self.failure is not None:
                raise self.failure
            self._rebuilds += 1
            await self._on_thread(self._batch.rebuild)

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """By the model's own tokenizer."""
        return await self._on_thread(self._open().count, tuple(texts))

    async def embed(self, texts: Sequence[str]) -> Embeddings:  # noqa: ARG002 - the protocol's signature
        """A text model has no vectors to give."""
        raise ModelRejected(f"model {self._name!r} answers and does not embed; name one whose local.task is Embedding")

    async def aclose(self) -> None:
        """Stop what runs, and let go of threads and weights."""
        self._language = None
        async with self._rebuilding:
            await asyncio.to_thread(self._batch.close)
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _open(self) -> Language:
        if self._language is None:
            raise self._closed()
        if self.failure is not None:
            raise self.failure
        return self._language

    async def _on_thread(self, function: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        except RuntimeError as error:
            if self._language is None:  # the thread was let go meanwhile
                raise self._closed() from error
            raise

    def _closed(self) -> Interrupted:
        return Interrupted(f"model {self._name!r} is closed: the run is ending")

    def _ended(self, why: str | None) -> AgentTaskError:
        """What an answer of a batch that has ended fails with."""
        if self._language is None:
            return self._closed()
        problem = why if why is not None else str(self._batch.problem())
        return ModelUnavailable(f"model {self._name!r} broke off: {(problem.splitlines() or ['no reason'])[0]}")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
