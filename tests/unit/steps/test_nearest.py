"""Cosine ranking."""

from hypothesis import given
from hypothesis import strategies as st

from agenttask_steps.nearest import nearest

VECTORS = st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=20)


def test_direction_counts_and_length_does_not():
    assert [index for index, _ in nearest((1, 0), [(0, 1), (100, 1), (2, 2), (-1, 0)], 3)] == [1, 2, 0]


def test_of_equals_the_earlier_comes_first_and_zeros_are_near_to_nothing():
    assert nearest((1, 0), [(0, 0), (1, 0), (1, 0)], 3) == [(1, 1.0), (2, 1.0), (0, 0.0)]


@given(VECTORS, st.integers(1, 25))
def test_scores_fall_and_stay_within_one(vectors, count):
    scores = [score for _, score in nearest(vectors[0], vectors, count)]
    assert len(scores) == min(count, len(vectors))
    assert scores == sorted(scores, reverse=True)
    assert all(-1.000001 <= score <= 1.000001 for score in scores)
