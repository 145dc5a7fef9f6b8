"""Times of the API, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.domain import moment


@pytest.mark.parametrize("text", [None, "", "yesterday", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "99999-01-01T00:00:00Z"])
def test_no_time_is_none(text: str | None) -> None:
    assert moment.parse(text) is None


def test_a_time_without_a_zone_is_utc() -> None:
    assert moment.parse("2027-01-15T08:00:00") == moment.parse("2027-01-15T08:00:00Z") == 1_800_000_000


@given(st.integers(40_000_000, 4_000_000_000))
def test_whole_seconds_survive(seconds: int) -> None:
    assert moment.parse(moment.render(seconds + 0.9)) == seconds
    assert moment.parse(moment.render_exact(seconds + 0.25)) == seconds + 0.25
