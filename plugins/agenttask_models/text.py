"""The engine of a language model: requests wait in line for the model's one thread, pieces come back to the loop.

One at a time for now. Whoever brings continuous batching replaces this class and `text_model.py`; nothing outside knows
how requests share the model.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from msgspec import Struct

from agenttask.api.errors import Interrupted, ModelRejected
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Chunk, Embeddings, Message, Usage


class Ended(Struct, frozen=True, kw_only=True):
    """How an answer ended."""

    usage: Usage
    finish_reason: str


class Generator(Protocol):
    """A model that answers, blocking."""

    def generate(self, messages: Sequence[Message], max_tokens: int, emit: Callable[[str], None], cancelled: Callable[[], bool]) -> Ended:
        """Answer in pieces, until `cancelled` says so."""
        ...


class TextEngine:
    """`Engine` of a text model; `thread` has one worker, in which the model was loaded, and is the engine's own."""

    def __init__(self, name: str, model: Generator, thread: ThreadPoolExecutor) -> None:
        self._name = name
        self._model: Generator | None = model
        self._thread = thread
        self._running: set[threading.Event] = set()

    async def generate(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece. Leaving early stops the model before its next token."""
        if self._model is None:
            raise Interrupted(f"model {self._name!r} is closed: the run is ending")
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        cancelled = threading.Event()

        def emit(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        self._running.add(cancelled)
        work = loop.run_in_executor(self._thread, self._model.generate, tuple(messages), sampling.max_tokens, emit, cancelled.is_set)
        work.add_done_callback(lambda done: _ended(done, pieces))
        try:
            while (piece := await pieces.get()) is not None:
                yield Chunk(text=piece)
            ended = await work
            yield Chunk(usage=ended.usage, finish_reason=ended.finish_reason)
        finally:
            cancelled.set()
            work.cancel()
            self._running.discard(cancelled)

    async def embed(self, texts: Sequence[str]) -> Embeddings:  # noqa: ARG002 - the protocol's signature
        """A text model has no vectors to give."""
        raise ModelRejected(f"model {self._name!r} answers and does not embed; name one whose local.task is Embedding")

    async def aclose(self) -> None:
        """Stop what runs, and let go of thread and weights."""
        for cancelled in self._running:
            cancelled.set()
        self._model = None
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)


def _ended(done: "asyncio.Future[Ended]", pieces: "asyncio.Queue[str | None]") -> None:
    """Wake the reader; looking at the exception marks it as seen, where the reader has left."""
    if not done.cancelled():
        done.exception()
    pieces.put_nowait(None)
