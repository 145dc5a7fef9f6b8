"""Retries of one call: which errors, which pauses, whose wishes, and when it is enough. In virtual time."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.models import ask, model_document
from tests.fakes.scripted_client import CALLS, USAGE, PlayedClient, called, until_the_end
from tests.fakes.virtual_time import in_virtual_time, loop_time, run_virtual

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask.api.model import CallRetry, Timeouts
from agenttask.runner.llm.retrying import RetryingClient
from agenttask.runner.llm.stopwatch import Stopwatch

DOWN = ModelUnavailable("connection refused")


class Bench:
    """A retrying client with what it logged; jitter leaves out nothing unless `random` says so."""

    def __init__(self, *acts: object, limit: int = 3, most: int = 30, total: int = 300, random: float = 0.0) -> None:
        self.inner = PlayedClient(*acts)
        self.said: list[str] = []
        self.stopwatch = Stopwatch(loop_time)
        model = model_document(
            "played", retry=CallRetry(limit=limit, max_backoff_seconds=most), timeouts=Timeouts(connect_seconds=1, total_seconds=total)
        )
        self.client = RetryingClient(self.inner, model, stopwatch=self.stopwatch, random=lambda: random, log=self.said.append)

    async def fails(self, how: str, kind: type[ModelUnavailable] = ModelUnavailable) -> str:
        with pytest.raises(kind) as caught:
            await called(self.client, how, ask("x"))
        assert type(caught.value) is kind
        return str(caught.value)

    @property
    def pauses(self) -> list[float]:
        return [round(later - earlier, 6) for earlier, later in zip(self.inner.calls, self.inner.calls[1:], strict=False)]


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_what_may_succeed_later_is_tried_again_with_doubling_pauses(how: str) -> None:
    bench = Bench(DOWN, DOWN, DOWN, "hello")
    assert await called(bench.client, how, ask("x")) == ("" if how == "embed" else "hello")
    assert bench.pauses == [0.5, 1.0, 2.0]
    assert bench.said[0] == "try 1 of 4 failed, the next is in 0.5 s: connection refused"


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_the_last_error_tells_how_often_and_how_long_it_was_tried(how: str) -> None:
    bench = Bench(DOWN, limit=2)
    assert await bench.fails(how) == "connection refused (after 3 tries in 1.5 s)"


@in_virtual_time
async def test_pauses_grow_to_their_bound_and_a_random_half_is_left_out() -> None:
    bench = Bench(DOWN, limit=8, most=4, random=1.0)
    await bench.fails("chat")
    assert bench.pauses == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]


@in_virtual_time
async def test_without_retries_the_first_error_stands_as_it_is() -> None:
    bench = Bench(DOWN, limit=0)
    assert await bench.fails("chat") == "connection refused"
    assert (len(bench.inner.calls), bench.said) == (1, [])


@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize("error", [ModelRejected("400"), InvalidTask("", "no"), RuntimeError("bug"), asyncio.CancelledError()])
@in_virtual_time
async def test_what_fails_again_is_not_tried_again(how: str, error: BaseException) -> None:
    bench = Bench(error)
    with pytest.raises(type(error)):
        await called(bench.client, how, ask("x"))
    assert len(bench.inner.calls) == 1


@in_virtual_time
async def test_an_error_that_will_not_go_away_ends_the_tries() -> None:
    bench = Bench(DOWN, ModelRejected("400"))
    with pytest.raises(ModelRejected, match=r"^400$"):
        await called(bench.client, "chat", ask("x"))


# ---- 429


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_a_storm_of_429_and_503_with_retry_after_waits_as_the_server_wishes(how: str) -> None:
    storm = [RateLimited("429", retry_after=3.0), ModelUnavailable("503", retry_after=7.0), RateLimited("429", retry_after=0.0)]
    bench = Bench(*storm, "hello")
    await called(bench.client, how, ask("x"))
    assert bench.pauses == [3.0, 7.0, 0.0]


@in_virtual_time
async def test_all_who_were_told_the_same_second_come_back_at_their_own() -> None:
    bench = Bench(RateLimited("429", retry_after=10.0), "hello", random=0.5)
    await called(bench.client, "chat", ask("x"))
    assert bench.pauses == [10.5]


@in_virtual_time
async def test_a_storm_of_429_without_retry_after_backs_off() -> None:
    bench = Bench(RateLimited("429"), limit=3)
    message = await bench.fails("chat", RateLimited)
    assert bench.pauses == [0.5, 1.0, 2.0]
    assert message == "429 (after 4 tries in 3.5 s)"


@in_virtual_time
async def test_retry_after_is_kept_to_where_it_is_longer_than_our_own_longest_pause() -> None:
    bench = Bench(RateLimited("429", retry_after=100.0), "hello", most=20)
    await called(bench.client, "chat", ask("x"))
    assert bench.pauses == [100.0]


@in_virtual_time
async def test_a_wish_beyond_the_total_time_fails_at_once_and_says_so() -> None:
    bench = Bench((2.0, RateLimited("429", retry_after=120.0)), total=60)
    with pytest.raises(RateLimited) as caught:
        await called(bench.client, "chat", ask("x"))
    assert str(caught.value) == "429 (its Retry-After of 120 s is beyond the 58 s that are left of totalSeconds 60)"
    assert caught.value.retry_after == 120.0
    assert len(bench.inner.calls) == 1


# ---- the total time


@in_virtual_time
async def test_the_total_time_of_all_tries_leaves_no_time_for_another() -> None:
    bench = Bench((40.0, DOWN), limit=20, most=30, total=100)
    message = await bench.fails("chat")
    assert len(bench.inner.calls) == 3
    assert message.endswith(
        "totalSeconds 100 of all tries; this was try 3 (after 3 tries in 100.0 s; totalSeconds 100 of all tries leave no time for another)"
    )


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_a_later_try_ends_with_the_total_time(how: str) -> None:
    bench = Bench(DOWN, 1000.0, total=60)
    message = await bench.fails(how)
    assert "did not answer within totalSeconds 60 of all tries; this was try 2" in message
    assert loop_time() == 60.0
    assert bench.inner.running == 0


@in_virtual_time
async def test_the_rest_of_a_stream_of_a_later_try_ends_with_the_total_time() -> None:
    bench = Bench(DOWN, ("half", 1000.0), total=60)
    pieces: list[str] = []
    with pytest.raises(ModelUnavailable, match="within totalSeconds 60 of all tries"):
        await until_the_end(bench.client.stream(ask("x")), pieces)
    assert (pieces, loop_time(), bench.inner.running) == (["half"], 60.0, 0)


@in_virtual_time
async def test_time_that_a_call_waits_for_its_turn_is_not_its_own() -> None:
    bench = Bench((), limit=2, total=10)

    class Turns(PlayedClient):
        async def chat(self, request):
            with bench.stopwatch.paused():
                await asyncio.sleep(500)
            return await super().chat(request)

    bench.client._inner = bench.inner = Turns(DOWN, (8.0, "hello"))
    assert await called(bench.client, "chat", ask("x")) == "hello"
    assert loop_time() == 500 + 0.5 + 500 + 8


@in_virtual_time
async def test_a_time_out_inside_that_is_not_ours_is_passed_on() -> None:
    bench = Bench(DOWN, TimeoutError("theirs"))
    with pytest.raises(TimeoutError, match="theirs"):
        await called(bench.client, "chat", ask("x"))


# ---- streams


@in_virtual_time
async def test_a_stream_is_not_tried_again_once_its_first_piece_is_there() -> None:
    bench = Bench(DOWN, ("half", DOWN), "whole")
    pieces: list[str] = []
    with pytest.raises(ModelUnavailable, match=r"^connection refused$"):
        await until_the_end(bench.client.stream(ask("x")), pieces)
    assert (pieces, len(bench.inner.calls)) == (["half"], 2)


@in_virtual_time
async def test_a_stream_that_is_left_is_left_inside_too() -> None:
    for acts in (("piece", 60.0),), (DOWN, ("piece", 60.0)):
        bench = Bench(*acts)
        stream = bench.client.stream(ask("x"))
        assert (await anext(stream)).text == "piece"
        assert bench.inner.running == 1
        await stream.aclose()
        assert bench.inner.running == 0


@in_virtual_time
async def test_a_stream_without_a_piece_is_an_empty_stream() -> None:
    class Silent(PlayedClient):
        async def stream(self, request):
            return
            yield

    bench = Bench()
    bench.client._inner = Silent()
    assert [chunk async for chunk in bench.client.stream(ask("x"))] == []
    await bench.client.aclose()


@in_virtual_time
async def test_a_stream_of_a_later_try_is_whole() -> None:
    bench = Bench(DOWN, ("one ", "two"))
    chunks = [chunk async for chunk in bench.client.stream(ask("x"))]
    assert ("".join(chunk.text for chunk in chunks), chunks[-1].usage) == ("one two", USAGE)


@given(
    failures=st.lists(st.one_of(st.just(None), st.floats(0, 200)), max_size=8),
    seconds=st.floats(0, 30),
    limit=st.integers(0, 6),
    most=st.integers(1, 40),
    total=st.integers(1, 120),
    random=st.floats(0, 1, exclude_max=True),
)
def test_no_call_outlives_its_total_time_or_its_tries(failures, seconds, limit, most, total, random) -> None:
    async def check() -> None:
        errors = [DOWN if wish is None else RateLimited("429", retry_after=wish) for wish in failures]
        bench = Bench(*[(seconds, error) for error in errors], (seconds, "hello"), limit=limit, most=most, total=total, random=random)
        with contextlib.suppress(ModelUnavailable):
            await called(bench.client, "chat", ask("x"))
        assert len(bench.inner.calls) <= limit + 1
        assert loop_time() <= max(total, seconds) + 1e-6  # the first try is bounded by the client itself
        longest = [most if wish is None else wish * 1.1 for wish in failures]
        assert all(pause <= bound + seconds + 1e-6 for pause, bound in zip(bench.pauses, longest, strict=False))

    run_virtual(check())
