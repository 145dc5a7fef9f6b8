"""The README's example is a valid task, and every page that it or docs/ leads to is there."""

import re
from pathlib import Path

import pytest
import yaml

from agenttask.api.steps import STEP_KINDS
from agenttask.cli.checking import check
from agenttask.cli.manifests import Manifest
from agenttask.cli.schemas import packaged_schemas

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs").glob("*.md"))


def test_the_example_is_valid() -> None:
    examples = re.findall(r"```yaml\n(apiVersion:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    manifests = [Manifest(file="README.md", document=1, body=yaml.safe_load(example)) for example in examples]
    assert len(check(manifests, packaged_schemas(), step_kinds=STEP_KINDS).tasks) == len(examples) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_of_the_documentation_is_reached_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"docs/{page.name}" not in text] == []
