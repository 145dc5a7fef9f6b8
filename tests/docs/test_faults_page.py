"""docs/faults.md names each fault test, and none that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_names_every_fault_test() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text()))
    sources = [file.read_text() for file in (ROOT / "tests/faults").glob("test_*.py") if file.name != "test_checker.py"]
    there = set(re.findall(r"^ *async def (test_\w+)", "\n".join(sources), re.MULTILINE))

    assert named == there
