"""Every hook is documented by its name, and so is every built-in; what the page imports is there."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from agenttask.plugin import hookspecs
from agenttask.plugin.registry import Catalogue, load

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
HOOKS = sorted(name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec"))


def test_there_are_five_hooks() -> None:
    assert len(HOOKS) == 5


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented_with_its_signature(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"`{hook}({arguments})`" in PAGE


@pytest.mark.parametrize("hook", HOOKS)
def test_the_built_ins_of_a_hook_are_listed(hook: str) -> None:
    catalogue = getattr(load(), hook.removeprefix("agenttask_"))
    assert isinstance(catalogue, Catalogue)
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{hook}(")]
    assert [name for name in catalogue.names if f"`{name}`" not in row] == []


def test_what_the_page_imports_is_there() -> None:
    imports = re.findall(r"^from (agenttask\S+) import (\w+)$", PAGE, re.MULTILINE)
    assert len(imports) == 2
    assert [name for module, name in imports if not hasattr(importlib.import_module(module), name)] == []
