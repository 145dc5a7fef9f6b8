"""`openai`: any OpenAI-compatible endpoint (OpenAI, vLLM, Ollama, llama.cpp, text-embeddings-inference, ...).

`endpoint` is the base URL, `/v1` included.

Parameters:
    temperature, topP, seed: sent along where the request has none of its own.
    maxTokensField: the name of the bound on the answer, `max_tokens` or `max_completion_tokens` where a server wants that.
    streamUsage: `false` stops asking for usage in streams, for servers that refuse `stream_options`.
    responseFormat: what a `responseSchema` is sent as: `JsonSchema` (the default), `JsonObject` for servers that know no
        schemas, `None` for those that refuse `response_format`. The answer is checked in any case.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings, Usage
from agenttask_llm.endpoint import Endpoint
from agenttask_llm.failures import stream_failure
from agenttask_llm.settings import field_of, known_parameters, number, one_of
from agenttask_llm.wire import WireCompletion, WireEmbeddings, usage_of

_PARAMETERS = ("temperature", "topP", "seed", "maxTokensField", "streamUsage", "responseFormat")
_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
_FORMATS = ("JsonSchema", "JsonObject", "None")
_CHAT, _EMBEDDINGS = "/chat/completions", "/embeddings"
_DONE = "[DONE]"


class OpenAIClient:
    """One model at one endpoint."""

    def __init__(self, model: ModelDocument, context: ClientContext, *, now: Callable[[], float] = time.time) -> None:
        if not model.endpoint:
            raise InvalidTask(
                field_of(model, "endpoint"), "client 'openai' needs the base URL of its server, as https://models.example.com/v1"
            )
        parameters = known_parameters(model, _PARAMETERS)
        self._model = model
        self._sampling = _sampling(model)
        self._limit_field = one_of(model, "maxTokensField", _MAX_TOKENS_FIELDS, _MAX_TOKENS_FIELDS[0])
        self._format = one_of(model, "responseFormat", _FORMATS, _FORMATS[0])
        self._stream_usage = parameters.get("streamUsage", "true").lower() != "false"
        self._endpoint = Endpoint(
            model, model.endpoint, context, signed=lambda credential: {"Authorization": f"Bearer {credential}"}, now=now
        )

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer, in one response."""
        body = self._body(request)
        answer = await self._endpoint.ask(_CHAT, body, WireCompletion, hint=_hint(body))
        self._refuse_error(answer)
        if not answer.choices or answer.choices[0].message is None:
            raise ModelRejected(f"{self._endpoint.who} answered without a message")
        choice = answer.choices[0]
        return Completion(
            text=choice.message.content or "" if choice.message else "",
            usage=usage_of(answer.usage),
            finish_reason=choice.finish_reason or "stop",
            model=answer.model or "",
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece."""
        body = {**self._body(request), "stream": True}
        if self._stream_usage:
            body["stream_options"] = {"include_usage": True}
        usage: Usage | None = None
        finish_reason: str | None = None
        name = ""
        async with (
            self._endpoint.first_piece() as deadline,
            aclosing(self._endpoint.events(_CHAT, body, WireCompletion, last=_DONE, hint=_hint(body))) as events,
        ):
            async for event in events:
                self._refuse_error(event)
                usage = usage_of(event.usage) if event.usage is not None else usage
                name = event.model or name
                for choice in (event.choices or [])[:1]:
                    finish_reason = choice.finish_reason or finish_reason
                    piece = choice.delta or choice.message
                    if piece is not None and piece.content:
                        deadline.met()
                        yield Chunk(text=piece.content, model=name)
        if finish_reason is None:
            raise ModelUnavailable(f"{self._endpoint.who} ended in the middle of its answer")
        yield Chunk(usage=usage or Usage(calls=1), finish_reason=finish_reason, model=name)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        answer = await self._endpoint.ask(_EMBEDDINGS, {"model": self._model.model, "input": list(texts)}, WireEmbeddings)
        order = [vector.index if vector.index is not None else place for place, vector in enumerate(answer.data)]
        if sorted(order) != list(range(len(texts))):
            raise ModelRejected(f"{self._endpoint.who} gave {len(answer.data)} vectors for {len(texts)} texts, or numbered them wrongly")
        vectors = {place: vector.embedding for place, vector in zip(order, answer.data, strict=True)}
        return Embeddings(vectors=tuple(vectors[place] for place in range(len(texts))), usage=usage_of(answer.usage))

    async def aclose(self) -> None:
        """The session is the run's."""

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            self._limit_field: request.max_tokens,
            **self._sampling,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = request.stop
        if request.response_schema is not None and self._format != "None":
            body["response_format"] = _response_format(self._format, request.response_schema)
        return body

    def _refuse_error(self, answer: WireCompletion) -> None:
        if answer.error is not None:
            raise stream_failure(self._model, self._endpoint.base, answer.error, self._endpoint.credential)


def _hint(body: Mapping[str, Any]) -> str:
    if "response_format" not in body:
        return ""
    return "; if it knows no such `response_format`, set `parameters.responseFormat` to JsonObject or None"


def _response_format(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "JsonObject":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _sampling(model: ModelDocument) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    for name, field, largest in (("temperature", "temperature", 2.0), ("topP", "top_p", 1.0)):
        if name in model.parameters:
            sampling[field] = number(model, name, 0.0, largest=largest)
    if "seed" in model.parameters:
        sampling["seed"] = int(number(model, "seed", 0, largest=2**31))
    return sampling
