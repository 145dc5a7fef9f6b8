"""Pauses between tries grow, leave out a random half at most, keep to Retry-After; what can never succeed is not tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api import errors
from agenttask.api.steps import Backoff, StepRetry
from agenttask.domain.step_retry import MAX_RETRY_AFTER, backoff_seconds, pause_before_retry, worth_retrying

FAILED = errors.StepFailed("exited 3")
backoffs = st.builds(Backoff, initial_seconds=st.integers(1, 3600), factor=st.integers(1, 10), max_seconds=st.integers(1, 86400))


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (FAILED, True),
        (errors.OutOfMemory("killed"), True),
        (errors.ModelUnavailable("refused"), True),
        (errors.RateLimited("429"), True),
        (errors.InvalidTask("f", "p"), False),
        (errors.InvalidTemplate("f", "p"), False),
        (errors.UnknownPlugin("x"), False),
        (errors.OutputTooLarge("x"), False),
        (errors.ModelRejected("401"), False),
        (errors.DeviceUnavailable("x"), False),
        (errors.SoftDeadlineReached("x"), False),
        (errors.Interrupted("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_end_otherwise_is_tried_again(error: errors.AgentTaskError, worth: bool) -> None:
    assert worth_retrying(error) is worth
    assert (pause_before_retry(StepRetry(limit=1), 1, error, lambda: 0) is not None) is worth


@given(backoffs, st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_between_half_and_the_whole_of_its_step(backoff: Backoff, tries: int, chance: float) -> None:
    whole = min(backoff.initial_seconds * backoff.factor ** (tries - 1), backoff.max_seconds)
    assert whole / 2 <= backoff_seconds(backoff, tries, lambda: chance) <= whole
    assert backoff_seconds(backoff, tries, lambda: 0.0) == whole / 2


def test_pauses_grow_to_their_bound() -> None:
    backoff = Backoff(initial_seconds=2, factor=3, max_seconds=20)
    assert [backoff_seconds(backoff, tries, lambda: 0.5) for tries in (1, 2, 3, 4)] == [1.5, 4.5, 13.5, 15]


def test_the_limit_counts_the_tries_after_the_first() -> None:
    retry = StepRetry(limit=2)
    assert [pause_before_retry(retry, tries, FAILED, lambda: 0.0) for tries in (1, 2, 3)] == [0.5, 1.0, None]
    assert pause_before_retry(None, 1, FAILED, lambda: 0.0) is None


@pytest.mark.parametrize(("wish", "pause"), [(None, 0.5), (0.1, 0.5), (90.0, 90.0), (float(MAX_RETRY_AFTER), 3600.0), (3601.0, None)])
def test_retry_after_is_kept_to_within_an_hour(wish: float | None, pause: float | None) -> None:
    for kind in (errors.RateLimited, errors.ServiceUnavailable):
        assert pause_before_retry(StepRetry(limit=1), 1, kind("busy", retry_after=wish), lambda: 0.0) == pause
