"""`chat` in full: conversations, answers with a schema, several models at once. Over clients that say what they are told."""

import asyncio
import json

import pytest
from tests.fakes.step_context import step_context

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, OutputTooLarge, RateLimited, StepFailed
from agenttask.plugin.llm import Message
from agenttask.plugin.threading import WorkKind
from agenttask_llm.scripted import ScriptedClient
from agenttask_steps.chat import ChatStep
from agenttask_steps.rendered import RenderedChat, RenderedMessage

SCHEMA = {"type": "object", "required": ["edits"], "properties": {"edits": {"type": "array", "items": {"type": "string"}}}}
GOOD = '{"edits": ["a"]}'


def says(*replies, **parameters):
    return ScriptedClient(ModelDocument(name="m", client="scripted", model="m", parameters={"replies": json.dumps(replies), **parameters}))


class Raises(ScriptedClient):
    """Fails as told, once all have begun."""

    def __init__(self, error, *, begun=None):
        super().__init__(ModelDocument(name="m", client="scripted", model="m"))
        self._error = error
        self._begun = begun

    async def stream(self, request):
        if self._begun is not None:
            await self._begun.wait()
        raise self._error
        yield


class Hangs(ScriptedClient):
    """Begins an answer and never ends it."""

    def __init__(self):
        super().__init__(ModelDocument(name="m", client="scripted", model="m"))
        self.begun = asyncio.Event()
        self.closed = False

    async def stream(self, request):
        self.begun.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            self.closed = True


async def chat(folder, clients, /, *, log=None, **fields):
    clients = clients if isinstance(clients, dict) else {"m": clients}
    fields = {"prompt": "Go", **fields}
    if "models" not in fields:
        fields["model"] = next(iter(clients))
    return await ChatStep().run(RenderedChat(**fields), step_context(folder, models=clients, log=log))


# ---- the request


async def test_all_of_the_request_reaches_the_model(tmp_path):
    client = says(GOOD)
    earlier = (RenderedMessage(role="User", content="Hi"), RenderedMessage(role="Assistant", content="Hello"))
    await chat(
        tmp_path, client, system="S", messages=earlier, temperature="0.7", seed=7, stop=("END", ""), max_tokens=9, response_schema=SCHEMA
    )
    (request,) = client.requests
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "S"),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Go"),
    ]
    assert (request.temperature, request.seed, request.stop, request.max_tokens) == (0.7, 7, ("END",), 9)
    assert request.response_schema == SCHEMA


async def test_messages_do_without_a_prompt(tmp_path):
    client = says("x")
    await chat(tmp_path, client, prompt="", messages=(RenderedMessage(role="User", content="Hi"),))
    assert client.requests[0].messages == (Message(role="user", content="Hi"),)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": ""}, "chat.prompt: is empty"),
        ({"models": ("a", "b"), "model": "m"}, "exactly one of `model` and `models`"),
        ({"models": ()}, "exactly one of `model` and `models`"),
        ({"models": ("a", "a")}, "chat.models: names a model twice"),
        ({"temperature": "hot"}, "chat.temperature: 'hot' is no decimal number"),
        ({"response_schema": {"type": "objct"}}, r"chat\.responseSchema\.type: 'objct'"),
        ({"response_schema": {"$ref": "https://example.com/s"}}, "nothing is fetched"),
    ],
    ids=["nothing-asked", "both", "neither", "twice", "temperature", "schema", "remote-schema"],
)
async def test_a_step_that_makes_no_sense_is_refused_before_a_model_is_asked(tmp_path, fields, said):
    client = says("x")
    with pytest.raises(InvalidTask, match=said):
        await chat(tmp_path, client, **fields)
    assert client.requests == []


# ---- answers with a schema


async def test_an_answer_that_fits_is_the_value(tmp_path):
    output = await chat(tmp_path, says(f"Sure:\n```json\n{GOOD}\n```"), response_schema=SCHEMA)
    assert output.json == {"edits": ["a"]}
    assert output.text.startswith("Sure:")


async def test_an_answer_that_does_not_fit_is_sent_back_with_what_is_wrong(tmp_path):
    client, log = says('{"edits": [3]}', GOOD), []
    output = await chat(tmp_path, client, response_schema=SCHEMA, log=log.append)
    assert output.json == {"edits": ["a"]}
    assert log == ["the answer of 'm' does not fit responseSchema and is sent back: $.edits[0]: 3 is not of type 'string'"]
    answered, complaint = client.requests[1].messages[-2:]
    assert answered == Message(role="assistant", content='{"edits": [3]}')
    assert complaint.role == "user"
    assert "- $.edits[0]: 3 is not of type 'string'" in complaint.content
    assert json.dumps(SCHEMA) in complaint.content


async def test_a_second_answer_that_does_not_fit_fails_the_step_with_path_and_value(tmp_path):
    client = says("nonsense", '{"edits": [3]}', GOOD)
    with pytest.raises(StepFailed, match=r"\$\.edits\[0\]: 3 is not of type 'string'.*it begins '\{"):
        await chat(tmp_path, client, response_schema=SCHEMA)
    assert len(client.requests) == 2


async def test_no_answer_fits_a_schema_that_allows_nothing(tmp_path):
    with pytest.raises(StepFailed, match="after it was sent back once"):
        await chat(tmp_path, says(GOOD), response_schema={"not": {}})


async def test_an_answer_cut_at_its_length_says_so_in_the_error_and_to_the_model(tmp_path):
    client = says('{"edits": [ "a", "b", "c" ]}')
    with pytest.raises(StepFailed, match="cut at its length, maxTokens is 3"):
        await chat(tmp_path, client, response_schema=SCHEMA, max_tokens=3)
    assert "cut off at 3 tokens" in client.requests[1].messages[-1].content


async def test_an_empty_answer_is_sent_back_as_nothing(tmp_path):
    client = says("", GOOD)
    await chat(tmp_path, client, response_schema=SCHEMA)
    assert client.requests[1].messages[-2].content == "(nothing)"


async def test_a_large_answer_is_checked_off_the_loop(tmp_path):
    context = step_context(tmp_path, models={"m": says(json.dumps({"edits": ["x" * 20_000]}))})
    await ChatStep().run(RenderedChat(model="m", prompt="x", response_schema=SCHEMA), context)
    assert context.threads.kinds == [WorkKind.PYTHON_CPU]


# ---- several models


async def test_several_are_asked_at_once_and_answer_under_their_names(tmp_path):
    first, second = Hangs(), says("two")
    running = asyncio.create_task(chat(tmp_path, {"a": first, "b": second}, models=("a", "b")))
    await asyncio.wait_for(first.begun.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (first.closed, len(second.requests)) == (True, 1)


async def test_answers_are_joined_in_the_order_of_the_models(tmp_path):
    output = await chat(tmp_path, {"a": says("one", delaySeconds="0.02"), "b": says("two")}, models=("a", "b"))
    assert output.text == "## a\n\none\n\n## b\n\ntwo"
    assert output.json == {"a": {"text": "one", "json": None, "error": None}, "b": {"text": "two", "json": None, "error": None}}


async def test_each_answer_has_its_value(tmp_path):
    output = await chat(tmp_path, {"a": says(GOOD), "b": says("no")}, models=("a", "b"), response_schema=SCHEMA)
    assert output.json["a"]["json"] == {"edits": ["a"]}
    assert output.json["b"]["error"]["reason"] == "StepFailed"
    assert "does not fit responseSchema" in output.json["b"]["error"]["message"]


async def test_one_that_fails_does_not_fail_the_others(tmp_path):
    log: list[str] = []
    models = {"a": Raises(ModelRejected("no")), "b": says("two"), "c": Raises(RuntimeError("bug"))}
    output = await chat(tmp_path, models, models=("a", "b", "c"), log=log.append)
    assert output.text == "## b\n\ntwo"
    assert output.json["a"] == {"text": "", "json": None, "error": {"reason": "ModelRejected", "message": "no"}}
    assert output.json["c"]["error"] == {"reason": "StepFailed", "message": "model 'c' failed with RuntimeError: bug"}
    assert log == ["model 'a' failed: no", "model 'c' failed: model 'c' failed with RuntimeError: bug"]


async def test_with_require_all_the_first_failure_fails_and_cancels_the_rest(tmp_path):
    hanging = Hangs()
    models = {"a": hanging, "b": Raises(RateLimited("slow", retry_after=3), begun=hanging.begun)}
    with pytest.raises(RateLimited, match="slow") as failed:
        await chat(tmp_path, models, models=("a", "b"), require_all=True)
    assert (failed.value.retry_after, hanging.closed) == (3, True)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((ModelRejected("a"), ModelUnavailable("b")), ModelUnavailable),
        ((ModelRejected("a"), StepFailed("b")), ModelRejected),
    ],
    ids=["one-is-worth-a-retry", "none-is"],
)
async def test_all_failing_fails_the_step_with_one_of_the_errors(tmp_path, errors, expected):
    models = {str(number): Raises(error) for number, error in enumerate(errors)}
    with pytest.raises(expected):
        await chat(tmp_path, models, models=tuple(models))


async def test_together_the_answers_are_bounded(tmp_path):
    models = {name: says("x" * (MAX_STEP_TEXT_BYTES // 2)) for name in ("a", "b")}
    with pytest.raises(OutputTooLarge, match="lower `maxTokens`"):
        await chat(tmp_path, models, models=("a", "b"))
