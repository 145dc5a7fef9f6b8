"""Fallbacks: when another model is asked, in which order, and what is said of it."""

import pytest
from tests.fakes.models import ask
from tests.fakes.scripted_client import PlayedClient, called, until_the_end

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask.runner.llm.falling_back import Fallback, FallbackClient

DOWN = ModelUnavailable("refused")


class Bench:
    """`big` with the fallbacks `b` and `c`."""

    def __init__(self, *acts: object) -> None:
        self.inner = [PlayedClient(act) for act in acts]
        self.said: list[str] = []
        models = [Fallback(name=name, client=client) for name, client in zip(("big", "b", "c"), self.inner, strict=False)]
        self.client = FallbackClient(models[0], models[1:], log=self.said.append)

    @property
    def asked(self) -> list[int]:
        return [len(client.calls) for client in self.inner]


@pytest.mark.parametrize("how", ["chat", "stream"])
@pytest.mark.parametrize("error", [DOWN, RateLimited("429")], ids=["unavailable", "rate limited"])
async def test_the_first_that_answers_does_and_the_answer_says_who_it_was(how, error):
    bench = Bench(error, error, "from c")
    if how == "chat":
        answer = await bench.client.chat(ask("x"))
        assert (answer.text, answer.agent_model, answer.model) == ("from c", "c", "played-1")
    else:
        chunks = [chunk async for chunk in bench.client.stream(ask("x"))]
        assert "".join(chunk.text for chunk in chunks) == "from c"
        assert {chunk.agent_model for chunk in chunks} == {"c"}
    assert bench.said == [f"asks 'b' in place of 'big': {error}", f"asks 'c' in place of 'b': {error}"]


@pytest.mark.parametrize("how", ["chat", "stream"])
async def test_a_model_that_answers_asks_nobody_else(how):
    bench = Bench("mine", "other")
    assert await called(bench.client, how, ask("x")) == "mine"
    assert (bench.asked, bench.said) == ([1, 0], [])


@pytest.mark.parametrize("how", ["chat", "stream"])
@pytest.mark.parametrize("error", [ModelRejected("too long"), InvalidTask("", "no"), RuntimeError("bug")])
async def test_what_a_model_refuses_is_asked_of_no_other(how, error):
    bench = Bench(error, "other")
    with pytest.raises(type(error)):
        await called(bench.client, how, ask("x"))
    assert bench.asked == [1, 0]


@pytest.mark.parametrize("how", ["chat", "stream"])
async def test_what_a_fallback_refuses_the_next_may_take(how):
    bench = Bench(DOWN, ModelRejected("too long"), "from c")
    assert await called(bench.client, how, ask("x")) == "from c"


@pytest.mark.parametrize("how", ["chat", "stream"])
@pytest.mark.parametrize("first", [DOWN, RateLimited("429", retry_after=7.0)], ids=["unavailable", "rate limited"])
async def test_where_all_fail_the_first_ones_error_stands_with_what_the_others_said(how, first):
    bench = Bench(first, ModelRejected("too long"), ModelUnavailable("down too"))
    with pytest.raises(type(first)) as caught:
        await called(bench.client, how, ask("x"))
    assert type(caught.value) is type(first)
    assert str(caught.value) == f"{first}; its fallbacks failed too: 'b': too long; 'c': down too"
    assert getattr(caught.value, "retry_after", None) == getattr(first, "retry_after", None)


async def test_a_stream_that_has_begun_is_this_models_answer_or_none():
    bench = Bench(("half", DOWN), "other")
    pieces: list[str] = []
    with pytest.raises(ModelUnavailable, match=r"^refused$"):
        await until_the_end(bench.client.stream(ask("x")), pieces)
    assert (pieces, bench.asked) == (["half"], [1, 0])


async def test_a_stream_that_is_left_is_left_inside_too():
    bench = Bench(DOWN, ("piece", 60.0))
    stream = bench.client.stream(ask("x"))
    await anext(stream)
    await stream.aclose()
    assert [client.running for client in bench.inner] == [0, 0]


async def test_embeddings_stay_with_their_model():
    bench = Bench(DOWN, "other")
    with pytest.raises(ModelUnavailable):
        await bench.client.embed(["x"])
    assert bench.asked == [1, 0]
    await bench.client.aclose()
    assert [client.closed for client in bench.inner] == [1, 0]
