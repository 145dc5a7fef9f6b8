"""Every feature of the designs that agenttask grows out of is on the page, with tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "features.md").read_text()
ROWS = {cells[1].strip(): cells for line in PAGE.splitlines() if re.match(r"\| [TC]\d+ \|", line) for cells in [line.split("|")]}
FEATURES = [*(f"T{number}" for number in range(1, 15)), *(f"C{number}" for number in range(1, 15))]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's test functions."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_feature_has_a_row_in_its_order() -> None:
    assert list(ROWS) == FEATURES


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_says_where_it_is_and_names_tests_that_exist(feature: str) -> None:
    *_, what, where, proof, _ = ROWS[feature]
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
    assert what.strip()
    assert where.strip()
    assert named
    assert len(named) == proof.count("`") / 2
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_files_and_pages_that_are_named_exist() -> None:
    links = set(re.findall(r"\]\(([^)#]+)\)", PAGE))
    assert {link for link in links if not (ROOT / "docs" / link).exists()} == set()
    code = {f"operator/agenttask/{path}" for path in re.findall(r"`(runner/\w+\.py)`", PAGE)} | set(re.findall(r"`(plugins/\w+)`", PAGE))
    assert {path for path in code if not (ROOT / path).exists()} == set()
