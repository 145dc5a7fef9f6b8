"""`scripted`: a model for tests and examples that says what it was told to say. It is no language model.

Parameters:
    reply: what it answers; `{prompt}` stands for the last user message. Default: `{prompt}`, an echo.
    replies: a JSON list of answers, used in turn and then from the front again; in place of `reply`.
    delaySeconds: how long it thinks before it answers or embeds.
    chunkDelaySeconds: how long it waits before each further word of a stream.
    error: `unavailable`, `rejected` or `rate-limited`: it fails so, always.
    dimensions: of its embeddings, from 1 to 4096; default 64.

Tokens are words. Embeddings are made from words (`word_vectors.py`), so texts with words in common are near.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Sequence

import msgspec

from agenttask.api.document import ModelDocument
from agenttask.api.errors import AgentTaskError, InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings, Usage
from agenttask_llm.settings import field_of, known_parameters, number
from agenttask_llm.word_vectors import word_vector

_PARAMETERS = ("reply", "replies", "delaySeconds", "chunkDelaySeconds", "error", "dimensions")
_ERRORS: dict[str, type[AgentTaskError]] = {"unavailable": ModelUnavailable, "rejected": ModelRejected, "rate-limited": RateLimited}
_PIECE = re.compile(r"\s*\S+\s*")
"""A word with the space around it: joined, the pieces are the whole again."""


class ScriptedClient:
    """Says its lines; `requests` and `embedded` remember what it was asked."""

    def __init__(self, model: ModelDocument) -> None:
        parameters = known_parameters(model, _PARAMETERS)
        self._model = model
        self._replies = itertools.cycle(_replies(model))
        self._delay = number(model, "delaySeconds", 0.0, largest=3600)
        self._chunk_delay = number(model, "chunkDelaySeconds", 0.0, largest=60)
        self._dimensions = max(1, int(number(model, "dimensions", 64, largest=4096)))
        self._error = parameters.get("error")
        if self._error is not None and self._error not in _ERRORS:
            raise InvalidTask(field_of(model, "parameters['error']"), f"{self._error!r} is none of {', '.join(_ERRORS)}")
        self.requests: list[ChatRequest] = []
        self.embedded: list[Sequence[str]] = []

    async def chat(self, request: ChatRequest) -> Completion:
        """The next line, whole."""
        pieces, usage, finish_reason = await self._answer(request)
        return Completion(text="".join(pieces), usage=usage, finish_reason=finish_reason, model=self._model.model)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The next line, word by word."""
        pieces, usage, finish_reason = await self._answer(request)
        for piece in pieces:
            yield Chunk(text=piece, model=self._model.model)
            await asyncio.sleep(self._chunk_delay)
        yield Chunk(usage=usage, finish_reason=finish_reason, model=self._model.model)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of the texts' words."""
        self.embedded.append(tuple(texts))
        await self._think()
        vectors = tuple(word_vector(text, self._dimensions) for text in texts)
        return Embeddings(vectors=vectors, usage=Usage(calls=1, input_tokens=sum(len(text.split()) for text in texts)))

    async def aclose(self) -> None:
        """There is nothing to free."""

    async def _think(self) -> None:
        await asyncio.sleep(self._delay)
        if self._error is not None:
            raise _ERRORS[self._error](f"model {self._model.name!r} is scripted to be {self._error}")

    async def _answer(self, request: ChatRequest) -> tuple[list[str], Usage, str]:
        """The line in pieces, at most `max_tokens` of them."""
        self.requests.append(request)
        await self._think()
        prompt = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
        line = next(self._replies).replace("{prompt}", prompt)
        pieces = _PIECE.findall(line) or ([line] if line else [])
        cut = len(pieces) > request.max_tokens
        pieces = pieces[: request.max_tokens]
        if cut:
            pieces[-1] = pieces[-1].rstrip()
        words = sum(len(message.content.split()) for message in request.messages)
        return pieces, Usage(calls=1, input_tokens=words, output_tokens=len(pieces)), "length" if cut else "stop"


def scripted_client(model: ModelDocument, context: ClientContext) -> ScriptedClient:  # noqa: ARG001 - the factory's signature
    """The factory: a scripted client needs nothing from outside."""
    return ScriptedClient(model)


def _replies(model: ModelDocument) -> list[str]:
    raw = model.parameters.get("replies")
    if raw is None:
        return [model.parameters.get("reply", "{prompt}")]
    try:
        replies = msgspec.json.decode(raw, type=list[str])
    except msgspec.MsgspecError:
        replies = []
    if not replies:
        raise InvalidTask(field_of(model, "parameters['replies']"), f"{raw!r} is no JSON list of strings with at least one in it")
    return replies
