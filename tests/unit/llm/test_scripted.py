"""The scripted client says what it is told, counts words as tokens, and refuses a script that it cannot follow."""

import math

import pytest
from tests.fakes.models import ask, client_context, model_document

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask_llm.scripted import ScriptedClient, scripted_client
from agenttask_llm.word_vectors import word_vector


def scripted(**parameters: str) -> ScriptedClient:
    return scripted_client(model_document("scripted", parameters=parameters), client_context())


async def test_without_a_script_it_echoes_the_last_user_message():
    answer = await scripted().chat(ask("first", "second  time", system="be brief"))
    assert answer.text == "second  time"
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.finish_reason) == (5, 2, "stop")


async def test_a_reply_may_hold_the_prompt():
    assert (await scripted(reply="You said {prompt}!").chat(ask("hi"))).text == "You said hi!"


async def test_replies_come_in_turn_and_from_the_front_again():
    client = scripted(replies='["a", "b"]')
    assert [(await client.chat(ask("x"))).text for _ in range(3)] == ["a", "b", "a"]


async def test_the_bound_cuts_at_a_word():
    answer = await scripted(reply="one two three").chat(ask("x", max_tokens=2))
    assert (answer.text, answer.finish_reason) == ("one two", "length")


@pytest.mark.parametrize("reply", ["", "  ", "a", " two  words \n"])
async def test_the_stream_is_the_answer(reply):
    client = scripted(reply=reply, chunkDelaySeconds="0.001")
    chunks = [chunk async for chunk in client.stream(ask("x"))]
    assert "".join(chunk.text for chunk in chunks) == reply
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None


@pytest.mark.parametrize(("error", "kind"), [("unavailable", ModelUnavailable), ("rejected", ModelRejected), ("rate-limited", RateLimited)])
async def test_it_fails_as_told(error, kind):
    client = scripted(error=error)
    with pytest.raises(kind, match="scripted"):
        await client.chat(ask("x"))
    with pytest.raises(kind):
        await client.embed(["x"])


async def test_it_remembers_what_it_was_asked():
    client = scripted()
    await client.chat(ask("x"))
    await client.embed(["a b", "c"])
    await client.aclose()
    assert [request.messages[-1].content for request in client.requests] == ["x"]
    assert client.embedded == [("a b", "c")]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"repyl": "x"}, r"parameters\['repyl'\].*it has: chunkDelaySeconds"),
        ({"error": "boom"}, "'boom' is none of unavailable"),
        ({"replies": "[]"}, "no JSON list"),
        ({"replies": "x"}, "no JSON list"),
        ({"replies": "[1]"}, "no JSON list"),
        ({"delaySeconds": "-1"}, "no number from 0 to 3600"),
        ({"delaySeconds": "soon"}, "no number"),
        ({"delaySeconds": "nan"}, "no number"),
        ({"dimensions": "5000"}, "no number from 0 to 4096"),
    ],
)
def test_a_script_that_cannot_be_followed_is_refused_by_its_field(parameters, problem):
    with pytest.raises(InvalidTask, match=problem):
        scripted(**parameters)


def test_vectors_of_words_are_unit_and_near_where_words_are_shared():
    def near(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(word_vector(one, 64), word_vector(other, 64), strict=True))

    assert math.isclose(near("a Dog barks", "barks, a dog"), 1.0)
    assert near("a dog barks", "a dog sleeps") > near("a dog barks", "ships sail far")
    assert word_vector("?!", 3) == (1.0, 0.0, 0.0)
    assert len(word_vector("\ud800 x", 8)) == 8
