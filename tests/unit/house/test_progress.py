"""Long commands show signs of life, and failed ones the end of their output."""

from pathlib import Path

import pytest
from scripts import progress
from scripts.progress import CommandFailed, last_line, run_showing_life


def test_the_latest_line_that_says_something_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\nfetching 10 %\rfetching 20 %\n\n")
    assert last_line(log) == "fetching 20 %"


def test_an_empty_log_shows_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    assert last_line(log) == ""


def test_a_failed_command_shows_its_status_and_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"build failed with exit status 3(.|\n)*the reason"):
        run_showing_life("build", ["sh", "-c", "echo the reason; exit 3"], tmp_path / "logs" / "build.log")


def test_a_long_command_gives_signs_of_life(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.05)
    assert run_showing_life("build", ["sh", "-c", "echo step one; sleep 1.2"], tmp_path / "build.log") >= 1
    assert "step one" in capsys.readouterr().err
