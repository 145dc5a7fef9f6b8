"""Percentiles, spreads and the order of rounds."""

import math

import pytest
from bench.control.arithmetic import Spread, in_turn, percentile, short, shown, spread
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values(values: list[float], share: float) -> None:
    assert percentile(values, share) in values


def test_a_spread_is_of_what_was_measured() -> None:
    assert spread([3.0, math.nan, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_nothing_measured_has_no_spread(values: list[float]) -> None:
    assert spread(values) is None
    assert shown(values) == ""


def test_a_table_shows_least_and_most_where_they_differ() -> None:
    assert shown([2.0, 1.0, 4.0]) == "2.00 (1.00\N{EN DASH}4.00)"
    assert shown([2.0, 2.0]) == "2.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12346"),
        (-2.5, "-2.50"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert short(value) == text


def test_contenders_swap_places_from_round_to_round() -> None:
    assert [in_turn("AB", number) for number in range(4)] == [["A", "B"], ["B", "A"], ["A", "B"], ["B", "A"]]


@given(st.lists(st.integers(), unique=True), st.integers(0, 50))
def test_two_rounds_give_everybody_the_same_place_in_all(names: list[int], number: int) -> None:
    first, then = in_turn(names, number), in_turn(names, number + 1)
    assert {name: first.index(name) + then.index(name) for name in names} == dict.fromkeys(names, len(names) - 1)
