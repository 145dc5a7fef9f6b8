"""A model's budget divided: the same whoever divides, above the limit only where each needs at least one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.model import Limits
from agenttask.domain.shares import share_of

MEMBERS = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=40)


def test_alone_an_attempt_has_the_whole_and_no_limit_stays_none() -> None:
    limits = Limits(concurrent_calls=8, requests_per_minute=60)
    assert share_of(limits, "a", ()) == limits


def test_what_is_left_over_goes_to_the_first_names() -> None:
    shares = [share_of(Limits(concurrent_calls=8), name, "abc").concurrent_calls for name in "abc"]
    assert shares == [3, 3, 2]


def test_with_more_attempts_than_calls_each_has_one() -> None:
    assert {share_of(Limits(concurrent_calls=2), name, "abcd").concurrent_calls for name in "abcd"} == {1}


@pytest.mark.parametrize("field", ["concurrent_calls", "requests_per_minute", "tokens_per_minute"])
@given(limit=st.integers(1, 10000), members=MEMBERS)
def test_shares_are_even_and_together_the_limit(field: str, limit: int, members: set[str]) -> None:
    shares = [getattr(share_of(Limits(**{field: limit}), member, members), field) for member in members]
    assert sum(shares) == max(limit, len(members))
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= 1


@given(members=MEMBERS, newcomer=st.text("abcdef", min_size=1, max_size=4))
def test_a_newcomer_never_makes_a_share_larger_by_more_than_what_is_left_over(members: set[str], newcomer: str) -> None:
    limits = Limits(concurrent_calls=100)
    for member in members:
        before, after = (share_of(limits, member, circle).concurrent_calls or 0 for circle in (members, members | {newcomer}))
        assert after <= before
