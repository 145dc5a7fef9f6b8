"""The models of one task: a client each, made when a step first asks, counted and observed, closed at the end."""

import contextlib
import difflib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Self

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings, LLMClient, LLMClientFactory, Usage
from agenttask.runner.observer import Observer, Operation


class Models:
    """Clients by the AgentModel's name."""

    def __init__(
        self,
        documents: Sequence[ModelDocument],
        *,
        factory: Callable[[str], LLMClientFactory],
        context: Callable[[ModelDocument], ClientContext],
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._documents = {document.name: document for document in documents}
        self._factory = factory
        self._context = context
        self._observer = observer
        self._clock = clock
        self._clients: dict[str, LLMClient] = {}
        self._calls = 0
        self.usage = Usage()

    def for_step(self, step: str) -> Callable[[str], LLMClient]:
        """What a step asks for its models; calls are observed under its name."""
        return lambda name: ObservedClient(self, self._client(name), self._documents[name], step)

    def _client(self, name: str) -> LLMClient:
        if name not in self._documents:
            known = ", ".join(sorted(self._documents)) or "none"
            near = difflib.get_close_matches(name, self._documents, n=1)
            raise InvalidTask("", f"there is no AgentModel {name!r}; there are: {known}{f'; did you mean {near[0]!r}?' if near else ''}")
        if name not in self._clients:
            document = self._documents[name]
            self._clients[name] = self._factory(document.client)(document, self._context(document))
        return self._clients[name]

    async def aclose(self) -> None:
        """Close every client; an error of one does not keep the others open."""
        async with contextlib.AsyncExitStack() as stack:
            for client in self._clients.values():
                stack.push_async_callback(client.aclose)
            self._clients = {}

    def begin(self, step: str, model: ModelDocument, operation: Operation, max_tokens: int | None = None) -> "Call":
        """A call starts."""
        self._calls += 1
        self._observer.model_call_started(self._calls, step, model, operation, max_tokens=max_tokens)
        return Call(self, self._calls, self._clock())

    def end(self, call: "Call", error: BaseException | None) -> None:
        """A call ended: count it, whatever came of it."""
        usage = Usage(calls=max(1, call.usage.calls), input_tokens=call.usage.input_tokens, output_tokens=call.usage.output_tokens)
        self.usage += usage
        self._observer.model_call_ended(
            call.number,
            seconds=self._clock() - call.started,
            usage=usage,
            finish_reason=call.finish_reason,
            answered_by=call.answered_by,
            error=error,
        )


class Call:
    """One call on its way; leaving the block ends it."""

    def __init__(self, models: Models, number: int, started: float) -> None:
        self.number = number
        self.started = started
        self.usage = Usage()
        self.finish_reason: str | None = None
        self.answered_by = ""
        self._models = models

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._models.end(self, error)

    def answered(self, usage: Usage, finish_reason: str | None = None, answered_by: str = "") -> None:
        """What the answer said of itself."""
        self.usage, self.finish_reason, self.answered_by = usage, finish_reason, answered_by


class ObservedClient:
    """A client around a client: counts usage and tells the observer."""

    def __init__(self, models: Models, inner: LLMClient, model: ModelDocument, step: str) -> None:
        self._models = models
        self._inner = inner
        self._model = model
        self._step = step

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        with self._models.begin(self._step, self._model, "chat", request.max_tokens) as call:
            completion = await self._inner.chat(request)
            call.answered(completion.usage, completion.finish_reason, completion.model)
            return completion

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The answer piece by piece."""
        with self._models.begin(self._step, self._model, "chat", request.max_tokens) as call:
            chunks = self._inner.stream(request)
            try:
                async for chunk in chunks:
                    if chunk.usage is not None:
                        call.answered(chunk.usage, chunk.finish_reason, chunk.model)
                    yield chunk
            finally:
                if isinstance(chunks, AsyncGenerator):  # closing it ends the call where it stands
                    await chunks.aclose()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        with self._models.begin(self._step, self._model, "embed") as call:
            embeddings = await self._inner.embed(texts)
            call.answered(embeddings.usage)
            return embeddings

    async def aclose(self) -> None:
        """The client belongs to the task, not to the step."""


def credential_of(document: ModelDocument, credentials: Mapping[str, str]) -> str | None:
    """The credential that a model's document names.

    Raises:
        InvalidTask: the variable is not there: the pod was made without the Secret's key.
    """
    if document.credential_env is None:
        return None
    try:
        return credentials[document.credential_env].strip()  # a Secret made from a file ends with a line break
    except KeyError:
        raise InvalidTask("", f"the credential of model {document.name!r} is missing: no variable {document.credential_env}") from None
