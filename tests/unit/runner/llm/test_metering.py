"""What a model's calls come to for the controller: tries, their time without the wait for limits, and the breaker's."""

import asyncio

import pytest
from tests.fakes.models import ask
from tests.fakes.scripted_client import CALLS, PlayedClient, called
from tests.fakes.virtual_time import in_virtual_time, loop_time

from agenttask.api.errors import ModelUnavailable
from agenttask.api.model import CircuitBreaker, Limits
from agenttask.runner.llm.breaker import Breaker, Permit
from agenttask.runner.llm.limiting import LimitedClient, ModelLimits
from agenttask.runner.llm.metering import Meter, MeteredClient
from agenttask.runner.llm.stopwatch import Stopwatch


@pytest.mark.parametrize("how", CALLS)
@in_virtual_time
async def test_calls_and_their_seconds_are_counted_whatever_comes_of_them(how: str) -> None:
    meter = Meter(loop_time)
    client = MeteredClient(PlayedClient((1.0, "hello"), (2.0, ModelUnavailable("down"))), meter)
    await called(client, how, ask("x"))
    with pytest.raises(ModelUnavailable):
        await called(client, how, ask("x"))
    assert (meter.calls, meter.seconds) == (2, 3.0)


@in_virtual_time
async def test_the_wait_for_a_turn_is_no_time_of_the_endpoint() -> None:
    meter = Meter(loop_time)
    inner = MeteredClient(PlayedClient((1.0, "hello")), meter)
    client = LimitedClient(inner, ModelLimits(Limits(concurrent_calls=1), clock=loop_time), stopwatch=Stopwatch(loop_time), log=print)
    await asyncio.gather(*(called(client, "chat", ask("x")) for _ in range(3)))
    assert (meter.calls, meter.seconds, loop_time()) == (3, 3.0, 3.0)


@in_virtual_time
async def test_a_breaker_tells_how_long_it_stays_open() -> None:
    breaker = Breaker(CircuitBreaker(minimum_calls=1, open_seconds=30), clock=loop_time, changed=lambda _: None)
    assert breaker.open_seconds == 0
    permit = breaker.admit()
    assert isinstance(permit, Permit)
    permit.failed("down")
    await asyncio.sleep(10)
    assert breaker.open_seconds == 20
    await asyncio.sleep(30)
    assert breaker.open_seconds == 0
