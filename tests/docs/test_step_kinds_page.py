"""The page of step kinds: its examples are valid steps, and no field of a kind is missing."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from agenttask.api import steps
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.validation import validate
from agenttask.plugin.registry import load

PAGE = (Path(__file__).parents[2] / "docs" / "step-kinds.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PARAMS = dict.fromkeys(("report", "text", "patch", "note", "question", "issue"), "x")
KINDS = {
    "chat": (steps.Chat,),
    "embed": (steps.Embed,),
    "retrieve": (steps.Retrieve,),
    "fetch": (steps.Fetch,),
    "git": (steps.GitClone, steps.GitCommit, steps.GitDiff),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: re.findall(r"name: (\S+)", example)[0])
def test_an_example_is_valid(example: str) -> None:
    spec = msgspec.convert({"params": PARAMS, "steps": yaml.safe_load(example)}, AgentTaskSpec, strict=True)
    validate(spec, step_kinds=load().step_kinds.names)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_kind_is_on_the_page(kind: str) -> None:
    section = PAGE.split(f"\n## {kind}\n")[1].split("\n## ")[0]
    fields = [field.encode_name for struct in KINDS[kind] for field in msgspec.structs.fields(struct)]
    assert [name for name in fields if not re.search(rf"\b{name}\b", section)] == []


def test_every_kind_has_a_section() -> None:
    assert [kind for kind in steps.STEP_KINDS if kind != "plugin" and f"\n## {kind}\n" not in PAGE] == []
