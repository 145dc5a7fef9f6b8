"""What tests of the whole controller share."""

import pytest
from tests.fakes.controller_program import nothing_settles


@pytest.fixture
def only_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a task is all that is told, however slow the machine is."""
    nothing_settles(monkeypatch)
