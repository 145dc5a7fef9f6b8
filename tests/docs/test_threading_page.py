"""The pages on threading and on CLI agents name every strategy, setting and field, and their examples are right."""

import ast
import importlib
import re
from pathlib import Path
from typing import get_args

import msgspec
import yaml

from agenttask.api import steps as api
from agenttask.api.task import AgentTaskSpec, Execution
from agenttask.controller.installation import RunnerVariable
from agenttask.domain.validation import validate
from agenttask.plugin.registry import load
from agenttask.plugin.threading import WorkKind

ROOT = Path(__file__).parents[2]
THREADING = (ROOT / "docs" / "threading.md").read_text()
AGENTS = (ROOT / "docs" / "cli-agents.md").read_text()
SETTINGS = (ROOT / "operator/agenttask/runner/settings.py").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_every_strategy_and_kind_has_its_place() -> None:
    (head,) = [line for line in THREADING.splitlines() if line.startswith("| kind |")]
    assert [name for name in load().threading_strategies.names if f"`{name}`" not in head] == []
    assert [kind.value for kind in WorkKind if f"\n| `{kind.value}` |" not in THREADING] == []


def test_every_variable_that_the_runner_reads_is_in_both_tables() -> None:
    names = set(re.findall(r'"((?:MAX|CPU|GPU|DEVICE)_[A-Z_]+)"', SETTINGS))
    assert len(names) == 5
    assert names <= set(get_args(RunnerVariable))
    image = (ROOT / "docs" / "runner-image.md").read_text()
    assert [name for name in names if f"`{name}`" not in THREADING or f"| `{name}` |" not in image] == []


def test_every_field_of_exec_and_of_the_wait_file_is_told() -> None:
    fields = [field.encode_name for kind in (api.Exec, api.WaitFile) for field in msgspec.structs.fields(kind)]
    assert [name for name in fields if f"`{name}" not in AGENTS and f"{name}:" not in AGENTS] == []


def test_the_examples_are_right() -> None:
    (execution,) = blocks(THREADING, "yaml")
    msgspec.convert(yaml.safe_load(execution)["spec"]["execution"], Execution)
    (step,) = blocks(AGENTS, "yaml")
    before = {"name": "instructions", "read": {"paths": ["x"]}}
    validate(msgspec.convert({"steps": [before, *yaml.safe_load(step)]}, AgentTaskSpec), step_kinds=None)
    (code,) = blocks(THREADING, "python")
    for node in ast.parse(code, mode="exec").body[:2]:
        assert isinstance(node, ast.ImportFrom)
        module = importlib.import_module(str(node.module))
        assert [each.name for each in node.names if not hasattr(module, each.name)] == []
