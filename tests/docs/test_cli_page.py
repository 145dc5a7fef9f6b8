"""docs/cli.md says what the program does."""

import re
from pathlib import Path

import pytest

from agenttask.cli import exit_codes, main

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_the_exit_codes_are_the_programs() -> None:
    assert dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)) == {str(code): text for code, text in exit_codes.MEANINGS.items()}


@pytest.mark.parametrize("command", [("run",), ("validate",), ("image", "check")], ids=" ".join)
def test_every_flag_is_on_the_page(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.run_command([*command, "--help"])
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {flag for flag in flags if f"`{flag}" not in PAGE and f" {flag}" not in PAGE and flag != "--timeout"} == set()
