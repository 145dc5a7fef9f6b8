"""`openai`: any OpenAI-compatible endpoint (OpenAI, vLLM, Ollama, llama.cpp, text-embeddings-inference, ...).

JSON over the run's shared aiohttp session and msgspec; no SDK, which costs five times the CPU a call. `endpoint` is the
base URL, `/v1` included. No retries here: those are a client around this one.

Parameters: `temperature`, `topP`, `seed` are sent along; `maxTokensField` is the name of the bound on the answer
(`max_tokens`, or `max_completion_tokens` where a server wants that); `streamUsage` "false" stops asking for usage in
streams, for servers that refuse `stream_options`.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings, Usage
from agenttask_llm.failures import covered, failure_of, stream_failure
from agenttask_llm.settings import field_of, known_parameters, number
from agenttask_llm.sse import EventStream, MalformedStream
from agenttask_llm.wire import WireCompletion, WireEmbeddings, usage_of

_PARAMETERS = ("temperature", "topP", "seed", "maxTokensField", "streamUsage")
_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
_BODY_BYTES = 32 << 20
"""32 vectors of 16,384 dimensions; nothing that is asked for here is larger."""
_FAILURE_BYTES = 16 << 10
_READ_BYTES = 64 << 10
_SHOWN_CHARACTERS = 80
_DONE = "[DONE]"
T = TypeVar("T")


class OpenAIClient:
    """One model at one endpoint."""

    def __init__(self, model: ModelDocument, context: ClientContext, *, now: Callable[[], float] = time.time) -> None:
        if not model.endpoint:
            raise InvalidTask(
                field_of(model, "endpoint"), "client 'openai' needs the base URL of its server, as https://models.example.com/v1"
            )
        parameters = known_parameters(model, _PARAMETERS)
        self._model = model
        self._base = model.endpoint.rstrip("/")
        self._credential = _checked(model, context.credential)
        self._session = context.session
        self._now = now
        self._sampling = _sampling(model)
        self._limit_field = parameters.get("maxTokensField", _MAX_TOKENS_FIELDS[0])
        if self._limit_field not in _MAX_TOKENS_FIELDS:
            raise InvalidTask(
                field_of(model, "parameters['maxTokensField']"), f"{self._limit_field!r} is none of {', '.join(_MAX_TOKENS_FIELDS)}"
            )
        self._stream_usage = parameters.get("streamUsage", "true").lower() != "false"
        self._timeout = aiohttp.ClientTimeout(total=model.timeouts.total_seconds, sock_connect=model.timeouts.connect_seconds)

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer, in one response."""
        async with self._post("/chat/completions", self._chat(request)) as response:
            answer = self._decode(await self._body(response), WireCompletion)
        if answer.error is not None:
            raise stream_failure(self._model, answer.error, self._credential)
        if not answer.choices or answer.choices[0].message is None:
            raise ModelRejected(f"{self._who} answered without a message")
        choice = answer.choices[0]
        return Completion(
            text=choice.message.content or "" if choice.message else "",
            usage=usage_of(answer.usage),
            finish_reason=choice.finish_reason or "stop",
            model=answer.model or "",
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece. Leaving early closes the connection, which stops the generation at the other end."""
        body = {**self._chat(request), "stream": True}
        if self._stream_usage:
            body["stream_options"] = {"include_usage": True}
        usage: Usage | None = None
        finish_reason: str | None = None
        name = ""
        async with (
            self._post("/chat/completions", body, accept="text/event-stream") as response,
            aclosing(self._events(response)) as events,
        ):
            async for event in events:
                usage = usage_of(event.usage) if event.usage is not None else usage
                name = event.model or name
                for choice in (event.choices or [])[:1]:
                    finish_reason = choice.finish_reason or finish_reason
                    piece = choice.delta or choice.message
                    if piece is not None and piece.content:
                        yield Chunk(text=piece.content, model=name)
        if finish_reason is None:
            raise ModelUnavailable(f"{self._who} ended in the middle of its answer")
        yield Chunk(usage=usage or Usage(calls=1), finish_reason=finish_reason, model=name)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        async with self._post("/embeddings", {"model": self._model.model, "input": list(texts)}) as response:
            answer = self._decode(await self._body(response), WireEmbeddings)
        order = [vector.index if vector.index is not None else place for place, vector in enumerate(answer.data)]
        if sorted(order) != list(range(len(texts))):
            raise ModelRejected(f"{self._who} gave {len(answer.data)} vectors for {len(texts)} texts, or numbered them wrongly")
        vectors = {place: vector.embedding for place, vector in zip(order, answer.data, strict=True)}
        return Embeddings(vectors=tuple(vectors[place] for place in range(len(texts))), usage=usage_of(answer.usage))

    async def aclose(self) -> None:
        """The session is the run's."""

    @property
    def _who(self) -> str:
        return f"model {self._model.name!r}: {self._base}"

    def _chat(self, request: ChatRequest) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        return {"model": self._model.model, "messages": messages, self._limit_field: request.max_tokens, **self._sampling}

    @asynccontextmanager
    async def _post(self, path: str, body: Mapping[str, Any], accept: str = "application/json") -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with status 200; whatever the transport throws becomes one of our errors.

        Errors of aiohttp are not chained where they hold the request: its headers hold the credential.
        """
        headers = {"Content-Type": "application/json", "Accept": accept}
        if self._credential:
            headers["Authorization"] = f"Bearer {self._credential}"
        try:
            raw = msgspec.json.encode(body)
        except UnicodeEncodeError as error:
            raise ModelRejected(f"{self._who}: the text cannot be sent as UTF-8: half of a surrogate pair at {error.start}") from error
        try:
            async with self._session().post(
                self._base + path, data=raw, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    beginning = await _beginning(response)
                    raise failure_of(
                        self._model, response.status, response.headers, beginning, credential=self._credential, now=self._now()
                    )
                yield response
        except TimeoutError as error:
            limits = self._model.timeouts
            raise ModelUnavailable(
                f"{self._who} did not answer in time (connectSeconds {limits.connect_seconds}, totalSeconds {limits.total_seconds})"
            ) from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise InvalidTask(field_of(self._model, "endpoint"), f"{self._model.endpoint!r} is no usable URL: {error}") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise ModelRejected(f"{self._who}: its certificate is not trusted: {error}") from error
        except aiohttp.ClientResponseError as error:
            raise ModelRejected(f"{self._who} does not speak HTTP: {covered(error.message, self._credential)}") from None
        except aiohttp.ClientError as error:
            raise ModelUnavailable(
                f"{self._who} cannot be reached: {covered(str(error), self._credential) or type(error).__name__}"
            ) from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_READ_BYTES):
            body += chunk
            if len(body) > _BODY_BYTES:
                raise ModelRejected(f"{self._who} answered with more than {_BODY_BYTES} bytes")
        return bytes(body)

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[WireCompletion, None]:
        """The events up to `[DONE]` or the end."""
        if response.content_type != "text/event-stream":
            raise ModelRejected(
                f"{self._who} answered with {response.content_type} where a stream of events was asked for; is `endpoint` right?"
            )
        stream = EventStream()
        try:
            async for chunk in response.content.iter_any():
                for data in stream.feed(chunk):
                    if data.strip() == _DONE:
                        return
                    yield self._event(data)
            for data in stream.end():
                if data.strip() != _DONE:
                    yield self._event(data)
        except MalformedStream as error:
            raise ModelRejected(f"{self._who} sent a malformed stream: {error}") from error

    def _event(self, data: str) -> WireCompletion:
        event = self._decode(data.encode(), WireCompletion)
        if event.error is not None:
            raise stream_failure(self._model, event.error, self._credential)
        return event

    def _decode(self, raw: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            begin = covered(raw[:_FAILURE_BYTES].decode("utf-8", "replace"), self._credential)[:_SHOWN_CHARACTERS]
            raise ModelRejected(f"{self._who} answered what is no answer ({error}): {begin!r}; is `endpoint` right?") from error


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Enough of a body to find the server's message in."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_FAILURE_BYTES):
        body += chunk
        if len(body) >= _FAILURE_BYTES:
            break
    return bytes(body)


def _checked(model: ModelDocument, credential: str | None) -> str | None:
    """The credential as a header takes it: Secrets made from files end with a line break."""
    stripped = credential.strip() if credential else None
    if stripped and not (stripped.isascii() and stripped.isprintable()):
        raise InvalidTask(
            field_of(model, "credentials"), "the credential has characters that no HTTP header takes; look at the Secret's key"
        )
    return stripped


def _sampling(model: ModelDocument) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    for name, field, largest in (("temperature", "temperature", 2.0), ("topP", "top_p", 1.0)):
        if name in model.parameters:
            sampling[field] = number(model, name, 0.0, largest=largest)
    if "seed" in model.parameters:
        sampling["seed"] = int(number(model, "seed", 0, largest=2**31))
    return sampling
