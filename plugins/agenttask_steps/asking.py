"""One model asked: its answer put together, held against `responseSchema`, sent back once where it does not fit.

The answer is streamed although nobody watches it grow: a time-out or a stop closes the stream, and the endpoint stops
generating for nobody; and an endless answer ends at the bound instead of in memory.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from msgspec import Struct, structs

from agenttask.api.errors import StepFailed
from agenttask.api.report import shorten
from agenttask.plugin.llm import ChatRequest, Message
from agenttask.plugin.step import StepContext
from agenttask.plugin.threading import WorkKind
from agenttask_steps.answer import Judged, judge
from agenttask_steps.handing_on import Room

_LARGE = 16 * 1024
"""Characters of answer and schema from which checking leaves the event loop."""
_ECHOED_CHARACTERS = 64 * 1024
_SHOWN_ANSWER = 200


class Answer(Struct, frozen=True, kw_only=True):
    """What the model said; `json` is its value where a schema is given."""

    text: str
    json: Any = None


class _Said(Struct, frozen=True, kw_only=True):
    text: str
    cut: bool


async def ask(name: str, request: ChatRequest, context: StepContext, *, room: int) -> Answer:
    """The answer of one model, of at most `room` bytes.

    Raises:
        StepFailed: it does not fit `responseSchema`, and neither does the second one.
    """
    said = await _say(name, request, context, room)
    if request.response_schema is None:
        return Answer(text=said.text)
    judged = await _judged(said.text, request.response_schema, context)
    if judged.problems:
        context.log(f"the answer of {name!r} does not fit responseSchema and is sent back: {judged.problems[0]}")
        said = await _say(name, _again(request, said, judged), context, room)
        judged = await _judged(said.text, request.response_schema, context)
    if judged.problems:
        cut = f"; it was cut at its length, maxTokens is {request.max_tokens}" if said.cut else ""
        raise StepFailed(
            f"the answer of model {name!r} does not fit responseSchema, after it was sent back once: {'; '.join(judged.problems)}{cut}; "
            f"it begins {shorten(repr(said.text), _SHOWN_ANSWER)}"
        )
    return Answer(text=said.text, json=judged.value)


async def _say(name: str, request: ChatRequest, context: StepContext, room: int) -> _Said:
    bounded = Room("the answer has", "lower `maxTokens`", limit=room)
    pieces: list[str] = []
    finish_reason: str | None = None
    stream = context.model(name).stream(request)
    try:
        async for chunk in stream:
            pieces.append(bounded.take(chunk.text))
            finish_reason = chunk.finish_reason or finish_reason
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
    if finish_reason == "length":
        context.log(f"the answer was cut at its length; maxTokens is {request.max_tokens}")
    return _Said(text="".join(pieces), cut=finish_reason == "length")


async def _judged(text: str, schema: Mapping[str, Any], context: StepContext) -> Judged:
    if len(text) + len(json.dumps(schema)) > _LARGE:
        judged: Judged = await context.threads.run(WorkKind.PYTHON_CPU, judge, text, schema)
        return judged
    return judge(text, schema)


def _again(request: ChatRequest, said: _Said, judged: Judged) -> ChatRequest:
    """The same conversation, with the answer and what is wrong with it."""
    wrong = "\n".join(f"- {problem}" for problem in judged.problems)
    cut = f"\nIt was cut off at {request.max_tokens} tokens: say it shorter." if said.cut else ""
    complaint = (
        f"This answer cannot be used:\n{wrong}{cut}\n"
        f"Answer again, with nothing but one JSON value that fits this JSON Schema:\n{json.dumps(request.response_schema)}"
    )
    answered = shorten(said.text, _ECHOED_CHARACTERS) or "(nothing)"
    messages = (*request.messages, Message(role="assistant", content=answered), Message(role="user", content=complaint))
    return structs.replace(request, messages=messages)
