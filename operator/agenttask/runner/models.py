"""The models of one task: a client each, made when a step first asks, and closed at the end.

Around a plugin's client stand, from outside: observation, fallback, circuit breaker, retry, limits, and in a pod a meter. Breakers
and limits are the process's (`llm/endpoints.py`), everything else is the task's.
"""

import contextlib
import difflib
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Self

from msgspec import Struct

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask
from agenttask.api.model import Limits
from agenttask.plugin.llm import (
    ChatRequest,
    Chunk,
    ClientContext,
    Completion,
    CountsTokens,
    Embeddings,
    LLMClient,
    LLMClientFactory,
    Usage,
)
from agenttask.runner.llm.breaking import BreakerClient
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.llm.falling_back import Fallback, FallbackClient
from agenttask.runner.llm.limiting import LimitedClient
from agenttask.runner.llm.metering import Meter, MeteredClient
from agenttask.runner.llm.pricing import Bill, PricedClient
from agenttask.runner.llm.retrying import RetryingClient
from agenttask.runner.llm.stopwatch import Stopwatch
from agenttask.runner.llm.stream import closing
from agenttask.runner.observer import Observer, Operation


class ModelUse(Struct, frozen=True, kw_only=True):
    """What became of the calls of one AgentModel; `breaker_open_seconds` are those from now on."""

    name: str
    calls: int
    seconds: float
    breaker_open_seconds: float


class Models:
    """Clients by the AgentModel's name; `shared`: their limits come from elsewhere too (`share`), and their calls are metered."""

    def __init__(
        self,
        documents: Sequence[ModelDocument],
        *,
        factory: Callable[[str], LLMClientFactory],
        context: Callable[[ModelDocument], ClientContext],
        observer: Observer,
        endpoints: Endpoints,
        log: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
        shared: bool = False,
    ) -> None:
        self._documents = {document.name: document for document in documents}
        self._shared = shared
        self._meters: dict[str, Meter] = {}
        self._factory = factory
        self._context = context
        self._observer = observer
        self._endpoints = endpoints
        self._log = log
        self._clock = clock
        self._random = random
        self._stopwatch = Stopwatch(clock)
        self._plugins: dict[str, LLMClient] = {}
        """As the factories made them."""
        self._alone: dict[str, LLMClient] = {}
        """Each with everything around it but its fallbacks."""
        self._whole: dict[str, LLMClient] = {}
        self._calls = 0
        self._bill = Bill()
        self.usage = Usage()

    @property
    def cost_text(self) -> str:
        """What the calls cost so far, as `0.0123 USD`; '' where no model has prices."""
        return self._bill.text

    @property
    def use(self) -> tuple[ModelUse, ...]:
        """Of the models that were asked, in the order of their first call; only where they are shared."""
        return tuple(
            ModelUse(
                name=name,
                calls=meter.calls,
                seconds=meter.seconds,
                breaker_open_seconds=self._endpoints.breaker(self._documents[name]).open_seconds,
            )
            for name, meter in self._meters.items()
        )

    def share(self, limits: Mapping[str, Limits]) -> None:
        """What may be asked of each model from now on; one that is not named has no limits."""
        for name, document in self._documents.items():
            self._endpoints.limits(document).change(limits.get(name, Limits()))

    def for_step(self, step: str) -> Callable[[str], LLMClient]:
        """What a step asks for its models; calls are observed under its name."""

        def model(name: str) -> LLMClient:
            client = self._client(name)
            plugin = self._plugins[name]
            if isinstance(plugin, CountsTokens):
                return CountingClient(self, client, self._documents[name], step, plugin)
            return ObservedClient(self, client, self._documents[name], step)

        return model

    def _client(self, name: str) -> LLMClient:
        """With its fallbacks."""
        if name not in self._whole:
            client = self._without_fallback(name)
            others = [other for other in dict.fromkeys(self._documents[name].fallback) if other != name]
            if others:
                client = FallbackClient(
                    Fallback(name=name, client=client),
                    [Fallback(name=other, client=self._without_fallback(other)) for other in others],
                    log=self._logger(name),
                )
            self._whole[name] = client
        return self._whole[name]

    def _without_fallback(self, name: str) -> LLMClient:
        if name not in self._alone:
            self._alone[name] = self._wrapped(self._document(name))
        return self._alone[name]

    def _wrapped(self, document: ModelDocument) -> LLMClient:
        client = self._factory(document.client)(document, self._context(document))
        self._plugins[document.name] = client
        log = self._logger(document.name)
        if self._shared:
            meter = self._meters[document.name] = Meter(self._clock)
            client = MeteredClient(client, meter)
        if self._shared or document.limits != Limits():
            client = LimitedClient(client, self._endpoints.limits(document), stopwatch=self._stopwatch, log=log)
        client = RetryingClient(client, document, stopwatch=self._stopwatch, random=self._random, log=log)
        client = BreakerClient(client, document.name, self._endpoints.breaker(document))
        return client if document.prices is None else PricedClient(client, document.prices, self._bill)

    def _document(self, name: str) -> ModelDocument:
        if name not in self._documents:
            known = ", ".join(sorted(self._documents)) or "none"
            near = difflib.get_close_matches(name, self._documents, n=1)
            raise InvalidTask("", f"there is no AgentModel {name!r}; there are: {known}{f'; did you mean {near[0]!r}?' if near else ''}")
        return self._documents[name]

    def _logger(self, name: str) -> Callable[[str], None]:
        return lambda message: self._log(f"model {name}", message)

    async def aclose(self) -> None:
        """Close every client; an error of one does not keep the others open."""
        async with contextlib.AsyncExitStack() as stack:
            for client in self._plugins.values():
                stack.push_async_callback(client.aclose)
            self._plugins, self._alone, self._whole = {}, {}, {}

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

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece."""
        with self._models.begin(self._step, self._model, "chat", request.max_tokens) as call:
            async with closing(self._inner.stream(request)) as chunks:
                async for chunk in chunks:
                    if chunk.usage is not None:
                        call.answered(chunk.usage, chunk.finish_reason, chunk.model)
                    yield chunk

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        with self._models.begin(self._step, self._model, "embed") as call:
            embeddings = await self._inner.embed(texts)
            call.answered(embeddings.usage)
            return embeddings

    async def aclose(self) -> None:
        """The client belongs to the task, not to the step."""


class CountingClient(ObservedClient):
    """For a plugin's client that can count tokens: the ability is passed on, uncounted and unlimited."""

    def __init__(self, models: Models, inner: LLMClient, model: ModelDocument, step: str, counter: CountsTokens) -> None:
        super().__init__(models, inner, model, step)
        self._counter = counter

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """How many tokens each text has."""
        return await self._counter.count_tokens(texts)


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
