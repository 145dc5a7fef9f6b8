"""The loop's turn comes soon while threads compute, and nothing of it is left behind."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agenttask.runner import bootstrap, main
from agenttask.runner.turns import SWITCH_SECONDS, short_turns


@pytest.fixture
def interval() -> Iterator[float]:
    """Another one than any program's."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.003)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_turns_are_short_until_the_block_ends(interval: float) -> None:
    with short_turns():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    assert sys.getswitchinterval() == interval


def test_a_pods_run_has_short_turns(interval: float, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def run_document(*_: Any) -> int:
        seen.append(sys.getswitchinterval())
        return 0

    monkeypatch.setattr(bootstrap, "run_document", run_document)
    for name in ("close_memory", "adopt_orphans"):
        monkeypatch.setattr(main, name, lambda: None)
    monkeypatch.setattr(main, "take_credentials", lambda _: None)
    monkeypatch.setattr(main, "kill_descendants", lambda _: None)
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["agenttask-runner"])
    assert (main.main(), seen) == (0, [pytest.approx(SWITCH_SECONDS)])
