"""Seconds that a template gave: whole, and within a week."""

import pytest

from agenttask.api.errors import StepFailed
from agenttask.domain.seconds import as_seconds


@pytest.mark.parametrize(("given", "seconds"), [(1, 1), ("604800", 604800), (" 30\n", 30), ("007", 7)])
def test_a_number_and_its_text_are_the_same(given: int | str, seconds: int) -> None:
    assert as_seconds(given, field="f") == seconds


@pytest.mark.parametrize("given", [0, 604801, True, -1, "", "1.5", "1e3", "null", "٣", "²", "-3", "9" * 5000])
def test_anything_else_is_refused_with_the_value_and_the_bounds(given: int | str) -> None:
    with pytest.raises(StepFailed, match=r"^spec\.steps\[0\]\.timeoutSeconds: .* is no whole number of seconds from 1 to 604800$"):
        as_seconds(given, field="spec.steps[0].timeoutSeconds")
