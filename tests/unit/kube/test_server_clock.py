"""Time by the API server's clock: what its answers' dates tell, and no more."""

import logging
import time
from email.utils import formatdate
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller.kube import KubeClient
from agenttask.controller.server_clock import ServerClock

NOW = 1_800_000_000.0
PODS = "/api/v1/namespaces/default/pods"

exchanges = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1), st.floats(0, 100)), min_size=1, max_size=20)
"""Of each: how long it took, when in that time the date was written, and how long nothing was asked before."""


class Own:
    """The machine's clock."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def date(at: float) -> str:
    return formatdate(floor(at), usegmt=True)


@given(ahead=st.floats(-1e6, 1e6), exchanges=exchanges)
def test_each_answer_brings_it_nearer_and_never_away(ahead: float, exchanges: list[tuple[float, float, float]]) -> None:
    own = Own()
    clock = ServerClock(own)
    off = abs(ahead)
    for took, written, idle in exchanges:
        own.now += idle
        asked = own.now
        stood = date(asked + written * took + ahead)
        own.now += took
        clock.heard(stood, asked=asked, answered=own.now)
        now_off = abs(clock() - own.now - ahead)
        assert now_off <= off + 1e-3
        assert now_off <= 1.0 + took + 1e-3
        off = now_off


@given(apart=st.floats(-0.5, 0.5), fraction=st.floats(0, 1))
def test_a_clock_that_may_be_right_is_left_alone(apart: float, fraction: float) -> None:
    """An answer in 0 s: ours lies in the second that the date names, so nothing says that it is wrong."""
    asked = floor(NOW) + fraction
    clock = ServerClock(Own(asked))
    clock.heard(date(floor(NOW)), asked=asked, answered=asked)
    assert clock() == asked
    slow = ServerClock(Own(asked + 1))
    slow.heard(date(asked + 0.5 + apart), asked=asked, answered=asked + 1)
    assert slow() == asked + 1


@pytest.mark.parametrize("said", [None, "", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT", "Thu, 01 Jan 99999 00:00:00 GMT", "\x00"])
def test_a_date_that_cannot_be_read_tells_nothing(said: str | None) -> None:
    clock = ServerClock(Own())
    clock.heard(said, asked=NOW, answered=NOW)
    assert clock() == NOW


def test_a_clock_that_is_set_back_during_a_request_learns_nothing_from_it() -> None:
    clock = ServerClock(Own())
    clock.heard(date(NOW + 600), asked=NOW, answered=NOW - 600)
    assert clock() == NOW


@pytest.mark.parametrize(
    ("ahead", "said"), [(600.0, "about 600 s behind the API server's"), (-600.0, "about 599 s ahead of the API server's")]
)
def test_a_difference_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture, ahead: float, said: str) -> None:
    own = Own()
    clock = ServerClock(own)
    with caplog.at_level(logging.INFO):
        for second in range(3):
            own.now = NOW + second
            clock.heard(date(own.now + ahead), asked=own.now, answered=own.now)
        assert [said in one for one in caplog.messages] == [True]
        own.now = NOW + 60
        clock.heard(date(own.now), asked=own.now, answered=own.now)
    assert ["agrees" in one for one in caplog.messages] == [False, True]


def test_api_servers_whose_clocks_differ_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    own = Own()
    clock = ServerClock(own)
    with caplog.at_level(logging.INFO):
        for number in range(1200):
            own.now = NOW + number / 10
            clock.heard(date(own.now + number % 2 * 600.0), asked=own.now, answered=own.now)
    assert len(caplog.messages) == 2


async def test_every_call_of_the_client_tells_the_time(server: FakeApiServer, client: KubeClient) -> None:
    client.clock.own = lambda: time.time() - 600.0
    began = time.monotonic()
    async for _ in client.list(PODS):
        pass
    assert abs(client.clock() - time.time()) < 2.0 + time.monotonic() - began
