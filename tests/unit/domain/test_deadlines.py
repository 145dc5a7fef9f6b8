"""Deadlines that contradict each other are refused."""

import pytest
from tests.fakes.seen import spec

from agenttask.api.errors import InvalidTask
from agenttask.domain.validation import validate


@pytest.mark.parametrize("soft", [100, 101])
def test_a_soft_deadline_that_never_comes_first_is_refused(soft: int) -> None:
    with pytest.raises(InvalidTask, match=rf"spec.softDeadlineSeconds: {soft} is not less than activeDeadlineSeconds .100.;"):
        validate(spec(softDeadlineSeconds=soft, activeDeadlineSeconds=100), step_kinds=None)


@pytest.mark.parametrize("fields", [{}, {"softDeadlineSeconds": 99, "activeDeadlineSeconds": 100}])
def test_any_other_is_right(fields: dict[str, int]) -> None:
    validate(spec(**fields), step_kinds=None)
