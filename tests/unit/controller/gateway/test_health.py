"""What attempts tell of a model, put together: breakers by majority, calls in flight by the middle one, all of it soon forgotten."""

import pytest

from agenttask.api.gateway import ModelReport
from agenttask.controller.gateway.health import (
    FRESH_SECONDS,
    LONGEST_OPEN_SECONDS,
    RATED_SECONDS,
    REMEMBERED_ATTEMPTS,
    REMEMBERED_SECONDS,
    ModelHealth,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> ModelHealth:
    return ModelHealth(clock)


def tell(health: ModelHealth, uid: str, *, opened: float = 0, seconds: float = 0, namespace: str = "n") -> None:
    health.take(namespace, uid, ModelReport(name="m", calls=1, call_seconds=seconds, breaker_open_seconds=opened))


def test_nobody_told(health: ModelHealth) -> None:
    assert (health.open_until("n", "m"), health.load("n", "m")) == (None, None)


def test_a_breaker_is_open_as_long_as_its_runner_says(health: ModelHealth, clock: Clock) -> None:
    tell(health, "a", opened=30)
    assert health.open_until("n", "m") == 1030.0
    clock.now += 30
    assert health.open_until("n", "m") is None


def test_it_is_closed_when_its_runner_says_so(health: ModelHealth) -> None:
    tell(health, "a", opened=30)
    tell(health, "a")
    assert health.open_until("n", "m") is None


@pytest.mark.parametrize(("closed", "open_"), [(1, True), (2, False)], ids=["half", "fewer"])
def test_fewer_than_half_do_not_stop_the_others(health: ModelHealth, closed: int, open_: bool) -> None:
    tell(health, "broken", opened=30)
    for index in range(closed):
        tell(health, f"fine-{index}")
    assert (health.open_until("n", "m") is not None) == open_


def test_old_reports_say_nothing_about_breakers(health: ModelHealth, clock: Clock) -> None:
    tell(health, "a", opened=3600)
    for index in range(5):
        tell(health, f"fine-{index}")
    clock.now += FRESH_SECONDS + 1
    tell(health, "b", opened=10)
    assert health.open_until("n", "m") == clock.now + 10


def test_a_namespace_is_not_stopped_by_another_s(health: ModelHealth) -> None:
    tell(health, "a", opened=30, namespace="theirs")
    assert health.open_until("n", "m") is None


def test_no_report_opens_for_ever(health: ModelHealth, clock: Clock) -> None:
    tell(health, "a", opened=1e9)
    assert health.open_until("n", "m") == clock.now + LONGEST_OPEN_SECONDS


def test_calls_in_flight_are_the_seconds_of_calls_in_a_second(health: ModelHealth, clock: Clock) -> None:
    tell(health, "a", seconds=4)
    assert health.load("n", "m") == 2.0  # since the start, two seconds ago
    clock.now += 10
    tell(health, "a", seconds=34)
    assert health.load("n", "m") == 3.0


def test_one_that_lies_does_not_move_the_middle(health: ModelHealth) -> None:
    for uid, seconds in (("a", 2.0), ("b", 4.0), ("liar", 1e9)):
        tell(health, uid, seconds=seconds)
    assert health.load("n", "m") == 2.0


def test_a_later_attempt_counts_anew(health: ModelHealth, clock: Clock) -> None:
    tell(health, "a", seconds=100)
    clock.now += 100
    tell(health, "a", seconds=2)
    assert health.load("n", "m") == 1.0


def test_what_is_old_or_too_much_is_forgotten(health: ModelHealth, clock: Clock) -> None:
    tell(health, "old", seconds=1000)
    clock.now += REMEMBERED_SECONDS + 1
    assert health.load("n", "m") is None
    for index in range(REMEMBERED_ATTEMPTS + 10):
        tell(health, str(index), seconds=2 if index < 10 else 4)
    assert health.load("n", "m") == 2.0
    (views,) = health._models.values()
    assert len(views) == REMEMBERED_ATTEMPTS


def test_requests_a_minute_are_those_of_tasks_that_have_told_for_a_while(health: ModelHealth, clock: Clock) -> None:
    for uid, before, after in (("a", 10, 15), ("b", 0, 20), ("c", 5, 5)):
        health.take("n", uid, ModelReport(name="m", calls=before))
        clock.now += RATED_SECONDS - 1
        health.take("n", uid, ModelReport(name="m", calls=before))
        assert health.requests("n", "m") is None or uid != "a"
        clock.now += 31
        health.take("n", uid, ModelReport(name="m", calls=after))
    assert health.requests("n", "m") == 5.0
    clock.now += REMEMBERED_SECONDS + 1
    assert health.requests("n", "m") is None
