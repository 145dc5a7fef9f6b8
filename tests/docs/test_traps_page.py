"""docs/traps.md has every trap and every bad input that we know of, each with tests that exist."""

import re

import pytest
from tests.docs.test_features_page import ROOT, names_in

PAGE = (ROOT / "docs" / "traps.md").read_text()
ROWS = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if re.match(r"\| [TB]\d+ \|", line)}
EXPECTED = [*(f"T{number}" for number in range(1, 17)), *(f"B{number}" for number in range(1, 13))]


def test_every_trap_has_a_row_in_its_order() -> None:
    assert list(ROWS) == EXPECTED


@pytest.mark.parametrize("row", EXPECTED)
def test_a_trap_says_what_happens_here_and_names_tests_that_exist(row: str) -> None:
    *_, what, here, proof, _ = ROWS[row].split("|")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
    assert what.strip()
    assert here.strip()
    assert named
    assert len(named) == proof.count("`") / 2
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_pages_that_are_named_exist() -> None:
    links = set(re.findall(r"\]\(([^)#]+)", PAGE))
    assert {link for link in links if not (ROOT / "docs" / link).exists()} == set()
