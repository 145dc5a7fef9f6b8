"""docs/reference is what docs/generate.py makes from the CRDs, the reasons and the chart's values."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from agenttask.api.reasons import Reason

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The generator, loaded from its file: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_pages_are_current(generate: ModuleType) -> None:
    assert generate.stale() == [], "run python docs/generate.py"


def test_a_page_that_differs_is_missing_or_is_left_over_is_named(generate: ModuleType, tmp_path: Path) -> None:
    for name, text in generate.pages().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "by-hand.md").write_text("# Written by a person\n")
    assert generate.stale(tmp_path) == []
    (tmp_path / "reasons.md").write_text("old")
    (tmp_path / "agentmodel.md").unlink()
    (tmp_path / "agentqueue.md").write_text(generate.NOTICE)
    assert generate.stale(tmp_path) == ["agentmodel.md", "agentqueue.md", "reasons.md"]


def test_every_reason_has_a_row(generate: ModuleType) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", generate.reasons_page(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(reason.value for reason in Reason)


def test_every_row_has_the_cells_of_its_table(generate: ModuleType) -> None:
    for name, text in generate.pages().items():
        for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, f"{name}: {table}"


def test_the_pages_tell_type_default_and_meaning(generate: ModuleType) -> None:
    task, values = generate.kind_page("AgentTask", "agenttasks"), generate.values_page()
    assert "| `steps[].chat.maxTokens` | integer, 1 to 1048576 | `512` | The most tokens that the answer may have. |" in task
    assert "| `steps[].name` | text, at most 63 | required |" in task
    assert "| `steps` | step names must be unique |" not in task
    assert "| `spec.steps` | step names must be unique |" in task
    assert "| `rbac.scope` | `namespaced` \\| `cluster` | `namespaced` |" in values
    assert '| `images.controller.tag` | text | `""` |' in values
