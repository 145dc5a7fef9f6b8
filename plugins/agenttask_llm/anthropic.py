"""`anthropic`: Anthropic's Messages API, and servers that speak it.

`endpoint` is the base URL without `/v1`; https://api.anthropic.com where none is given. The API has no embeddings, and
takes no seed: a request's is left out.

Parameters:
    temperature, topP, topK: sent along where the request has none of its own.
    version: the header `anthropic-version`; default 2023-06-01, the last version that takes those three. With a later one a
        request's temperature is left out.
    responseFormat: what a `responseSchema` is sent as: `None` (the default), or `JsonSchema` for models and schemas that
        structured outputs take (every object needs `additionalProperties: false`). The answer is checked in any case.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.plugin.llm import ChatRequest, Chunk, ClientContext, Completion, Embeddings
from agenttask_llm.anthropic_wire import Counted, WireEvent, WireMessage
from agenttask_llm.endpoint import Endpoint
from agenttask_llm.failures import WireError, stream_failure
from agenttask_llm.settings import field_of, known_parameters, number, one_of

_PARAMETERS = ("temperature", "topP", "topK", "version", "responseFormat")
_FORMATS = ("None", "JsonSchema")
_ENDPOINT = "https://api.anthropic.com"
_VERSION = "2023-06-01"
_WITHOUT_SAMPLING = "2026-10-21"
"""From this version on the API refuses temperature, top_p and top_k, their defaults too."""
_MESSAGES = "/v1/messages"
_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length"}
"""In the words that `openai` uses; others stand as they are."""


class AnthropicClient:
    """One model at one endpoint."""

    def __init__(self, model: ModelDocument, context: ClientContext, *, now: Callable[[], float] = time.time) -> None:
        parameters = known_parameters(model, _PARAMETERS)
        version = parameters.get("version", _VERSION)
        self._model = model
        self._samples = version < _WITHOUT_SAMPLING
        self._sampling = _sampling(model)
        if self._sampling and not self._samples:
            raise InvalidTask(
                field_of(model, "parameters['version']"),
                f"{version!r} of the API takes no temperature, topP and topK; leave them out, or the version",
            )
        self._format = one_of(model, "responseFormat", _FORMATS, _FORMATS[0])
        self._endpoint = Endpoint(
            model,
            model.endpoint or _ENDPOINT,
            context,
            signed=lambda credential: {"x-api-key": credential},
            headers={"anthropic-version": version},
            now=now,
        )

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer, in one response."""
        body = self._body(request)
        answer = await self._endpoint.ask(_MESSAGES, body, WireMessage, hint=_hint(body))
        self._refuse_error(answer.error)
        if answer.content is None:
            raise ModelRejected(f"{self._endpoint.who} answered without content; is `endpoint` right?")
        counted = Counted()
        counted.take(answer.usage)
        return Completion(
            text="".join(block.text or "" for block in answer.content),
            usage=counted.usage,
            finish_reason=_reason(answer.stop_reason),
            model=answer.model or "",
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece."""
        counted = Counted()
        reason: str | None = None
        name, ended = "", False
        body = {**self._body(request), "stream": True}
        async with (
            self._endpoint.first_piece() as deadline,
            aclosing(self._endpoint.events(_MESSAGES, body, WireEvent, hint=_hint(body))) as events,
        ):
            async for event in events:
                self._refuse_error(event.error)
                counted.take(event.usage)
                if event.message is not None:
                    counted.take(event.message.usage)
                    name = event.message.model or name
                if event.delta is not None:
                    reason = event.delta.stop_reason or reason
                text = _text(event)
                if text:
                    deadline.met()
                    yield Chunk(text=text, model=name)
                if event.type == "message_stop":
                    ended = True
                    break
        if not ended:
            raise ModelUnavailable(f"{self._endpoint.who} ended in the middle of its answer")
        yield Chunk(usage=counted.usage, finish_reason=_reason(reason), model=name)

    async def embed(self, texts: Sequence[str]) -> Embeddings:  # noqa: ARG002 - the protocol's signature
        """There are none."""
        raise ModelRejected(
            f"model {self._model.name!r}: client 'anthropic' has no embeddings, as the Messages API has none; "
            "name an AgentModel of client 'openai' or 'local'"
        )

    async def aclose(self) -> None:
        """The session is the run's."""

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model.model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages if message.role != "system"],
            **self._sampling,
        }
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        if system:
            body["system"] = system
        if request.temperature is not None and self._samples:
            body["temperature"] = request.temperature
        if request.stop:
            body["stop_sequences"] = request.stop
        if request.response_schema is not None and self._format != "None":
            body["output_config"] = {"format": {"type": "json_schema", "schema": request.response_schema}}
        return body

    def _refuse_error(self, error: WireError | None) -> None:
        if error is not None:
            raise stream_failure(self._model, self._endpoint.base, error, self._endpoint.credential)


def _hint(body: Mapping[str, Any]) -> str:
    return (
        "; structured outputs take not every model and schema, `parameters.responseFormat: None` asks without"
        if "output_config" in body
        else ""
    )


def _text(event: WireEvent) -> str | None:
    """The text that an event adds; thinking and tools add none."""
    if event.type == "content_block_start" and event.content_block is not None:
        return event.content_block.text
    if event.type == "content_block_delta" and event.delta is not None:
        return event.delta.text
    return None


def _reason(reason: str | None) -> str:
    return _REASONS.get(reason, reason) if reason else "stop"


def _sampling(model: ModelDocument) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    for name, field, largest in (("temperature", "temperature", 1.0), ("topP", "top_p", 1.0)):
        if name in model.parameters:
            sampling[field] = number(model, name, 0.0, largest=largest)
    if "topK" in model.parameters:
        sampling["top_k"] = int(number(model, "topK", 0, largest=10000))
    return sampling
