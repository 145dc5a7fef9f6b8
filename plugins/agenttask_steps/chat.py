"""`chat`: asks one model, or several at once. `text` is the answer, `json` its value where `responseSchema` is given.

Of several, `json` is `{model: {text, json, error}}`, and `text` has the answers in the order of `models`, each under a
heading `## model`; who failed is not in it. One that fails does not fail the others, unless `requireAll` is set.
"""

import asyncio
from collections.abc import Mapping
from typing import Literal

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import AgentTaskError, InvalidTask, RetryableError, StepFailed
from agenttask.plugin.llm import ChatRequest, Message
from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.asking import Answer, ask
from agenttask_steps.json_schema import check_schema
from agenttask_steps.rendered import RenderedChat

_HEADING_BYTES = 512
"""Of each model's share of the text; a name has at most 253."""
_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {"System": "system", "User": "user", "Assistant": "assistant"}


class ChatStep:
    """Asks once, or once more where the answer does not fit."""

    schema = RenderedChat

    async def run(self, config: RenderedChat, context: StepContext) -> StepOutput:
        """The answer; one that was cut by `maxTokens` says so in the log."""
        _check(config)
        request = _request(config)
        if config.model is not None:
            answer = await ask(config.model, request, context, room=MAX_STEP_TEXT_BYTES)
            return StepOutput(text=answer.text, json=answer.json)
        answers = await _ask_all(config, request, context)
        return StepOutput(
            text="\n\n".join(f"## {name}\n\n{answer.text}" for name, answer in answers.items() if isinstance(answer, Answer)),
            json={name: _told(answer) for name, answer in answers.items()},
        )


async def _ask_all(config: RenderedChat, request: ChatRequest, context: StepContext) -> dict[str, Answer | AgentTaskError]:
    """What each model said, or why it said nothing.

    Raises:
        AgentTaskError: all failed, or with `requireAll` the first did; an error that is worth a retry is preferred.
    """
    room = MAX_STEP_TEXT_BYTES // len(config.models) - _HEADING_BYTES

    async def one(name: str) -> Answer | AgentTaskError:
        try:
            return await ask(name, request, context, room=room)
        except AgentTaskError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a plugin's own error must not lose the other answers
            failure = StepFailed(f"model {name!r} failed with {type(error).__name__}: {error}")
            failure.__cause__ = error
        if config.require_all:
            raise failure
        context.log(f"model {name!r} failed: {failure}")
        return failure

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(one(name), name=f"chat {name}") for name in config.models}
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed.exceptions[0].__cause__
    answers = {name: task.result() for name, task in tasks.items()}
    failures = [answer for answer in answers.values() if isinstance(answer, AgentTaskError)]
    if len(failures) == len(answers):
        raise next((failure for failure in failures if isinstance(failure, RetryableError)), failures[0])
    return answers


def _check(config: RenderedChat) -> None:
    if (config.model is None) == (not config.models):
        raise InvalidTask("chat.model", "exactly one of `model` and `models` is needed")
    if len(set(config.models)) != len(config.models):
        raise InvalidTask("chat.models", "names a model twice")
    if not config.prompt and not config.messages:
        raise InvalidTask("chat.prompt", "is empty, and so is `messages`; give one of them")
    if config.response_schema is not None:
        check_schema(config.response_schema, "chat.responseSchema")


def _request(config: RenderedChat) -> ChatRequest:
    messages = [Message(role="system", content=config.system)] if config.system else []
    messages += [Message(role=_ROLES[message.role], content=message.content) for message in config.messages]
    messages += [Message(role="user", content=config.prompt)] if config.prompt else []
    return ChatRequest(
        messages=tuple(messages),
        max_tokens=config.max_tokens,
        temperature=_temperature(config.temperature),
        seed=config.seed,
        stop=tuple(stop for stop in config.stop if stop),
        response_schema=config.response_schema,
    )


def _temperature(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError as error:
        raise InvalidTask("chat.temperature", f"{value!r} is no decimal number, as '0.7'") from error


def _told(answer: Answer | AgentTaskError) -> dict[str, object]:
    if isinstance(answer, Answer):
        return {"text": answer.text, "json": answer.json, "error": None}
    return {"text": "", "json": None, "error": {"reason": str(answer.reason), "message": str(answer)}}
