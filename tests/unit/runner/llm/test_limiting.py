"""Limits: how many calls at once, how many a minute, how many tokens; who waits, who is told, who may leave. In virtual time."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.models import ask
from tests.fakes.scripted_client import CALLS, PlayedClient, called
from tests.fakes.virtual_time import in_virtual_time, loop_time, run_virtual

from agenttask.api.errors import ModelUnavailable
from agenttask.api.model import Limits
from agenttask.plugin.llm import Usage
from agenttask.runner.llm.bucket import Bucket
from agenttask.runner.llm.limiting import LimitedClient, ModelLimits, chat_tokens
from agenttask.runner.llm.stopwatch import Stopwatch


class Bench:
    """A client within limits, and what it logged."""

    def __init__(self, *acts: object, usage: Usage | None = None, **limits: int) -> None:
        self.inner = PlayedClient(*acts, usage=usage or Usage(calls=1))
        self.said: list[str] = []
        self.limits = ModelLimits(Limits(**limits), clock=loop_time)
        self.client = LimitedClient(self.inner, self.limits, stopwatch=Stopwatch(loop_time), log=self.said.append)

    async def together(self, count: int, how: str = "chat", max_tokens: int = 1) -> None:
        await asyncio.gather(*(called(self.client, how, ask("x", max_tokens=max_tokens)) for _ in range(count)))


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_no_more_calls_run_at_once_than_may(how: str) -> None:
    bench = Bench((1.0, "hello"), concurrent_calls=3)
    await bench.together(10, how)
    assert (bench.inner.most, loop_time()) == (3, 4.0)


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_a_minutes_worth_goes_at_once_and_the_rest_evenly(how: str) -> None:
    bench = Bench(requests_per_minute=6)
    await bench.together(9, how)
    assert bench.inner.calls == pytest.approx([0.0] * 6 + [10.0, 20.0, 30.0], abs=0.01)


@in_virtual_time
async def test_tokens_are_estimated_before_and_put_right_after() -> None:
    bench = Bench(usage=Usage(calls=1, input_tokens=30, output_tokens=20), tokens_per_minute=600)
    for _ in range(12):
        await called(bench.client, "chat", ask("x", max_tokens=500))
    # Estimated 501, used 50: a third call needs what the first two gave back, and the bucket gives 10 a second.
    assert bench.inner.calls[2] == pytest.approx(0.1, abs=0.01)
    assert loop_time() == pytest.approx((11 * 50 + 501 - 600) / 10, abs=0.1)


@in_virtual_time
async def test_an_answer_longer_than_estimated_is_paid_by_those_who_come_next() -> None:
    bench = Bench(usage=Usage(calls=1, input_tokens=600, output_tokens=600), tokens_per_minute=600)
    await called(bench.client, "embed", ask("x"))
    await called(bench.client, "embed", ask("x"))
    assert loop_time() == pytest.approx(60.2, abs=0.01)


@in_virtual_time
async def test_a_call_larger_than_the_limit_waits_for_all_of_it_and_is_let_through() -> None:
    bench = Bench(tokens_per_minute=60)
    await bench.together(2, max_tokens=100_000)
    assert bench.inner.calls == pytest.approx([0.0, 60.0], abs=0.01)


@in_virtual_time
async def test_small_calls_do_not_overtake_a_large_one() -> None:
    bucket, order = Bucket(60, clock=loop_time), []

    async def take(amount: int) -> None:
        await bucket.take(amount)
        order.append(amount)

    await bucket.take(60)
    await asyncio.gather(take(50), *(take(1) for _ in range(5)))
    assert order == [50, 1, 1, 1, 1, 1]


@in_virtual_time
async def test_whoever_waits_is_woken_by_what_comes_back() -> None:
    bucket = Bucket(60, clock=loop_time)
    await bucket.take(60)
    asyncio.get_running_loop().call_later(5, bucket.put_back, 60)
    await bucket.take(60)
    assert loop_time() == 5.0


@in_virtual_time
async def test_a_debt_is_paid_within_two_minutes_whatever_an_endpoint_claims() -> None:
    bucket = Bucket(60, clock=loop_time)
    bucket.put_back(-1e19)
    await bucket.take(60)
    assert loop_time() == pytest.approx(120.0)


@in_virtual_time
async def test_waiting_is_said_once_and_only_after_a_second() -> None:
    bench = Bench((2.0, "hello"), concurrent_calls=1, requests_per_minute=100, tokens_per_minute=1000)
    await bench.together(2)
    assert bench.said == ["a call waits for its limits (concurrentCalls 1, requestsPerMinute 100, tokensPerMinute 1000)"]
    quick = Bench((0.5, "hello"), concurrent_calls=1)
    await quick.together(2)
    assert quick.said == []


@pytest.mark.parametrize("limits", [{"concurrent_calls": 1}, {"requests_per_minute": 1}, {"tokens_per_minute": 60}], ids=str)
@in_virtual_time
async def test_a_call_that_is_cancelled_while_it_waits_takes_nothing(limits: dict[str, int]) -> None:
    bench = Bench((1.0, "hello"), **limits)
    first = asyncio.create_task(called(bench.client, "chat", ask("x", max_tokens=100)))
    await asyncio.sleep(0.5)
    waiting = [asyncio.create_task(called(bench.client, "chat", ask("x", max_tokens=100))) for _ in range(3)]
    await asyncio.sleep(0.1)
    for call in waiting:
        call.cancel()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    await called(bench.client, "chat", ask("x", max_tokens=100))
    assert bench.inner.calls[1] <= 60.1
    assert len(bench.inner.calls) == 2


@in_virtual_time
async def test_a_call_that_is_cancelled_while_it_waits_for_tokens_gives_its_request_back() -> None:
    bench = Bench(requests_per_minute=2, tokens_per_minute=60)
    await called(bench.client, "chat", ask("x", max_tokens=100))
    waiting = asyncio.create_task(called(bench.client, "chat", ask("x", max_tokens=100)))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await bench.limits._requests.take(1)
    assert loop_time() == 1.0


@in_virtual_time
async def test_a_call_that_is_cancelled_while_it_waits_for_a_bucket_gives_its_place_back() -> None:
    bench = Bench(concurrent_calls=1, requests_per_minute=1)
    await called(bench.client, "chat", ask("x"))
    waiting = asyncio.create_task(called(bench.client, "chat", ask("x")))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await called(bench.client, "chat", ask("x"))
    assert loop_time() == pytest.approx(60.0, abs=0.01)


@in_virtual_time
async def test_leaving_a_stream_ends_the_one_inside_before_the_next_call_takes_its_place() -> None:
    bench = Bench(("a", 100.0, "b"), "whole", concurrent_calls=1)
    stream = bench.client.stream(ask("x"))
    assert (await anext(stream)).text == "a"
    inside = bench.inner.running
    await stream.aclose()
    assert (inside, bench.inner.running) == (1, 0)
    await called(bench.client, "chat", ask("x"))
    assert (bench.inner.most, loop_time()) == (1, 0.0)


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_a_call_that_fails_gives_its_place_back(how: str) -> None:
    bench = Bench(ModelUnavailable("x"), concurrent_calls=1)
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            await called(bench.client, how, ask("x"))


@in_virtual_time
async def test_a_stream_keeps_its_place_until_its_end() -> None:
    bench = Bench(("a", "b"), "whole", concurrent_calls=1)
    stream = bench.client.stream(ask("x"))
    await anext(stream)
    other = asyncio.create_task(called(bench.client, "chat", ask("x")))
    await asyncio.sleep(10)
    assert len(bench.inner.calls) == 1
    await stream.aclose()
    assert await other == "whole"
    await bench.client.aclose()


def test_the_estimate_is_the_prompts_length_and_the_answers_bound() -> None:
    assert chat_tokens(ask("four" * 10, system="ß" * 3, max_tokens=7)) == 10 + 2 + 7


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=12),
    per_minute=st.integers(5, 60),
)
def test_within_any_time_no_more_is_taken_than_the_bucket_holds_and_gains(calls, per_minute) -> None:
    """(when it comes, what it takes, what it puts back at once); everybody is served, in the order of coming."""

    async def check() -> None:
        bucket, came, taken = Bucket(per_minute, clock=loop_time), [], []

        async def take(number: int, when: float, amount: int, back: int) -> None:
            await asyncio.sleep(when)
            came.append(number)
            real = await bucket.take(amount)
            assert real == min(amount, per_minute)
            back = min(back, int(real))
            taken.append((loop_time(), real - back, number))
            bucket.put_back(back)

        await asyncio.gather(*(take(number, *call) for number, call in enumerate(calls)))
        assert [number for _, _, number in taken] == came
        for start in range(len(taken)):
            total = 0.0
            for when, amount, _ in taken[start:]:
                total += amount
                assert total <= per_minute + (when - taken[start][0]) * per_minute / 60 + 0.01

    run_virtual(check())
