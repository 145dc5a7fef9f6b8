"""The circuit breaker: when it opens, who may try, and what counts; then as a client around a client."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.fakes.models import ask
from tests.fakes.scripted_client import CALLS, PlayedClient, called

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, RateLimited
from agenttask.api.model import CircuitBreaker
from agenttask.runner.llm.breaker import Breaker, Permit, Refusal
from agenttask.runner.llm.breaking import BreakerClient

HALF_OF_FOUR = CircuitBreaker(failure_percent=50, minimum_calls=4, window_seconds=60, open_seconds=30)


class Time:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A breaker, its clock and what it said."""

    def __init__(self, given: CircuitBreaker = HALF_OF_FOUR) -> None:
        self.time = Time()
        self.said: list[str] = []
        self.breaker = Breaker(given, clock=self.time, changed=self.said.append)

    def admitted(self) -> Permit:
        permit = self.breaker.admit()
        assert isinstance(permit, Permit)
        return permit

    def opened(self) -> "Bench":
        for _ in range(4):
            self.admitted().failed("refused")
        return self

    @property
    def refusal(self) -> Refusal:
        refusal = self.breaker.admit()
        assert isinstance(refusal, Refusal)
        return refusal


def test_it_opens_at_the_ratio_of_the_minimum_and_tells_why_and_how_long() -> None:
    bench = Bench()
    for verdict in (True, True, False):
        permit = bench.admitted()
        permit.succeeded() if verdict else permit.failed("first")
    bench.admitted().failed("connection refused")
    bench.time.now += 10
    assert bench.refusal == Refusal(open_for=10, again_in=20, failed=2, calls=4, cause="connection refused")
    assert bench.said == ["open for 30 s: 2 of 4 calls failed, the last with: connection refused"]


def test_fewer_failures_than_the_ratio_keep_it_closed() -> None:
    bench = Bench()
    for _ in range(20):
        bench.admitted().succeeded()
        bench.admitted().succeeded()
        bench.admitted().failed("x")
    assert bench.said == []


def test_failures_that_left_the_window_are_forgotten() -> None:
    bench = Bench()
    for _ in range(8):
        bench.admitted().failed("x")
        bench.time.now += 30
    assert bench.said == []


def test_one_call_tries_it_when_the_pause_is_over_and_closes_it() -> None:
    bench = Bench().opened()
    bench.time.now += 30
    trial = bench.admitted()
    assert bench.refusal.again_in == 0
    trial.succeeded()
    bench.admitted().succeeded()
    assert bench.said[1:] == ["half open after 30 s: one call tries it", "closed: it answers again"]


def test_a_trial_that_fails_opens_it_for_another_pause() -> None:
    bench = Bench().opened()
    bench.time.now += 31
    bench.admitted().failed("still down")
    assert (bench.refusal.again_in, bench.refusal.cause) == (30, "still down")


def test_a_trial_without_a_verdict_leaves_the_trial_to_the_next_call() -> None:
    bench = Bench().opened()
    bench.time.now += 30
    bench.admitted().let_go()
    bench.admitted().succeeded()
    assert bench.said[-1] == "closed: it answers again"


def test_a_trial_that_begins_to_answer_lets_the_others_through_and_then_counts_as_one_of_them() -> None:
    bench = Bench().opened()
    bench.time.now += 30
    trial = bench.admitted()
    trial.answers()
    trial.answers()
    for _ in range(3):
        bench.admitted().failed("x")
    trial.failed("broke off")
    assert bench.said[-1].endswith("4 of 4 calls failed, the last with: broke off")


def test_calls_from_before_it_opened_count_no_more() -> None:
    bench = Bench()
    old = [bench.admitted() for _ in range(4)]
    bench.opened()
    for permit in old[:2]:
        permit.failed("late")
    bench.time.now += 30
    bench.admitted().succeeded()
    for permit in old[2:]:
        permit.failed("later")
    bench.admitted().failed("x")
    bench.admitted().failed("x")
    assert bench.said[-1] == "closed: it answers again"


class AgainstAModel(RuleBasedStateMachine):
    """The breaker beside a list of all that ever happened."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(CircuitBreaker(failure_percent=60, minimum_calls=3, window_seconds=20, open_seconds=15))
        self.state = "closed"
        self.opened_at = 0.0
        self.history: list[tuple[float, bool]] = []
        self.pending: list[Permit] = []
        self.trial: Permit | None = None

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 14.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.time.now += seconds

    @rule()
    def a_call_asks(self) -> None:
        answer = self.bench.breaker.admit()
        over = self.bench.time.now - self.opened_at >= 15
        if self.state == "closed":
            assert isinstance(answer, Permit)
            self.pending.append(answer)
        elif self.trial is None and over:
            assert isinstance(answer, Permit)
            self.trial = answer
        else:
            assert isinstance(answer, Refusal)
            assert answer.again_in == pytest.approx(max(0.0, 15 - (self.bench.time.now - self.opened_at)))

    @precondition(lambda self: self.pending)
    @rule(verdict=st.sampled_from(["ok", "fails", "nothing"]))
    def a_call_ends(self, verdict: str) -> None:
        permit = self.pending.pop(0)
        self._settle(permit, verdict)
        if verdict == "nothing" or self.state != "closed":
            return
        now = self.bench.time.now
        self.history.append((now, verdict == "fails"))
        recent = [failed for when, failed in self.history if when > now - 20]
        if verdict == "fails" and len(recent) >= 3 and sum(recent) * 100 >= 60 * len(recent):
            self._opens()

    @precondition(lambda self: self.trial is not None)
    @rule(verdict=st.sampled_from(["ok", "fails", "nothing", "answers"]))
    def the_trial_ends(self, verdict: str) -> None:
        trial, self.trial = self.trial, None
        assert trial is not None
        if verdict == "answers":
            trial.answers()
            self.pending.append(trial)
        else:
            self._settle(trial, verdict)
        if verdict in ("ok", "answers"):
            self.state, self.history = "closed", []
        elif verdict == "fails":
            self._opens()

    def _opens(self) -> None:
        self.state, self.opened_at = "open", self.bench.time.now
        self.pending = []  # what was let through before is forgotten: its verdicts change nothing (tested above)
        self.history = []

    @staticmethod
    def _settle(permit: Permit, verdict: str) -> None:
        match verdict:
            case "ok":
                permit.succeeded()
            case "fails":
                permit.failed("x")
            case _:
                permit.let_go()

    @invariant()
    def what_was_said_last_is_the_state(self) -> None:
        last = self.bench.said[-1] if self.bench.said else "closed"
        assert last.startswith("closed") == (self.state == "closed")


AgainstAModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase


# ---- as a client


def client(inner: PlayedClient, bench: Bench | None = None) -> tuple[BreakerClient, Bench]:
    bench = bench or Bench()
    return BreakerClient(inner, "small", bench.breaker), bench


@pytest.mark.parametrize("how", CALLS)
async def test_an_endpoint_that_fails_is_not_asked_for_a_while(how: str) -> None:
    inner = PlayedClient(ModelUnavailable("refused"))
    asked, bench = client(inner)
    for _ in range(4):
        with pytest.raises(ModelUnavailable, match=r"^refused$"):
            await called(asked, how, ask("x"))
    bench.time.now += 12
    with pytest.raises(ModelUnavailable) as caught:
        await called(asked, how, ask("x"))
    assert str(caught.value) == (
        "model 'small' is not asked: its circuit breaker has been open for 12 s, after 4 of 4 calls failed; it is tried again in 18 s. "
        "The last failure was: refused"
    )
    assert len(inner.calls) == 4


@pytest.mark.parametrize("how", CALLS)
async def test_of_twenty_callers_exactly_one_tries_an_endpoint_that_was_down(how: str) -> None:
    inner = PlayedClient((0.01, "again"))
    asked, bench = client(inner, Bench().opened())
    bench.time.now += 30
    results = await asyncio.gather(*(called(asked, how, ask("x")) for _ in range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, ModelUnavailable)]
    assert (len(inner.calls), len(refused)) == (1, 19)
    assert all("one call is trying it now" in str(error) for error in refused)
    assert await called(asked, how, ask("x")) is not None


@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize(
    "error", [RateLimited("429"), ModelRejected("400"), InvalidTask("", "no"), RuntimeError("bug")], ids=lambda error: type(error).__name__
)
async def test_what_says_nothing_of_the_endpoint_does_not_open_it(how: str, error: Exception) -> None:
    asked, bench = client(PlayedClient(error))
    for _ in range(10):
        with pytest.raises(type(error)):
            await called(asked, how, ask("x"))
    assert bench.said == []


@pytest.mark.parametrize("how", CALLS)
async def test_a_cancelled_call_is_no_failure_and_a_cancelled_trial_gives_its_place_away(how: str) -> None:
    inner = PlayedClient(60.0, 60.0, 60.0, 60.0, 60.0, "fine")
    asked, bench = client(inner)
    for round_ in range(5):
        if round_ == 4:
            bench.opened()
            bench.time.now += 30
        call = asyncio.create_task(called(asked, how, ask("x")))
        while not inner.running:  # noqa: ASYNC110 - the client sets no event
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await called(asked, how, ask("x"))
    assert bench.said[-1] == "closed: it answers again"


async def test_a_stream_that_breaks_off_counts_and_one_that_is_left_does_not() -> None:
    asked, bench = client(PlayedClient(("piece", ModelUnavailable("broke off"))))
    for _ in range(3):
        stream = asked.stream(ask("x"))
        await anext(stream)
        await stream.aclose()
    for _ in range(4):
        with pytest.raises(ModelUnavailable):
            await called(asked, "stream", ask("x"))
    assert bench.said == ["open for 30 s: 4 of 4 calls failed, the last with: broke off"]


async def test_a_stream_that_begins_ends_the_trial_for_those_who_wait() -> None:
    inner = PlayedClient(("piece", "piece"), "whole")
    asked, bench = client(inner, Bench().opened())
    bench.time.now += 30
    stream = asked.stream(ask("x"))
    await anext(stream)
    assert await called(asked, "chat", ask("x")) == "whole"
    await stream.aclose()
    await asked.aclose()
    assert inner.closed == 1
