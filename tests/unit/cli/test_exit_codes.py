"""A script can tell what kind of end a run came to."""

import pytest

from agenttask.api.errors import AgentTaskError, Interrupted, ModelUnavailable, RateLimited, StepFailed
from agenttask.api.reasons import TERMINAL_REASONS, Reason
from agenttask.cli import exit_codes


def error_with(reason: Reason) -> AgentTaskError:
    return type("Fabricated", (AgentTaskError,), {"reason": reason})("x")


@pytest.mark.parametrize("reason", [reason for reason in TERMINAL_REASONS if reason is not Reason.SUCCEEDED])
def test_every_reason_has_a_number_with_a_meaning(reason: Reason) -> None:
    code = exit_codes.of_error(error_with(reason))
    assert code in exit_codes.MEANINGS
    assert code != 0


def test_what_may_succeed_later_differs_from_what_never_will() -> None:
    found = [exit_codes.of_error(error) for error in (None, ModelUnavailable("x"), RateLimited("x"), StepFailed("x"), Interrupted("x"))]
    assert found == [0, 3, 3, 1, 130]


def test_of_several_the_first_failure_counts() -> None:
    assert exit_codes.of_errors([None, RateLimited("x"), StepFailed("x")]) == 3
    assert exit_codes.of_errors([None, None]) == 0
