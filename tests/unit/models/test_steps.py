"""Windows in steps: every one once, no step above its rows and tokens."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask_models.steps import steps_by_length


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 8), st.integers(1, 100))
def test_every_window_goes_once_and_steps_keep_to_their_bounds(lengths, rows, tokens):
    steps = list(steps_by_length(lengths, rows=rows, tokens=tokens))
    assert sorted(at for step in steps for at in step) == list(range(len(lengths)))
    for step in steps:
        padded = len(step) * max(lengths[at] for at in step)
        assert len(step) <= rows
        assert padded <= tokens or len(step) == 1
    flat = [lengths[at] for step in steps for at in step]
    assert flat == sorted(flat, reverse=True)


def test_equal_lengths_fill_a_step():
    assert [len(step) for step in steps_by_length([4] * 10, rows=8, tokens=16)] == [4, 4, 2]
