"""Every field of an AgentModel is on the page about models, with a test that exists; so are clients, parameters, wrappers."""

import re
from pathlib import Path

import msgspec
import pytest

from agenttask.api.model import AgentModelSpec
from agenttask_llm import agenttask_llm_clients, anthropic, openai, scripted

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "llm.md").read_text()
ROWS = {match[1]: match[2] for match in re.finditer(r"^\| `([\w.]+)` \|.*\| `(tests/\S+)` \|$", PAGE, re.MULTILINE)}
PARTS = ("timeouts", "limits", "retry", "circuitBreaker", "prices")
"""Fields whose own fields have a row each."""


def fields() -> list[str]:
    found = []
    for field in msgspec.structs.fields(AgentModelSpec):
        if field.encode_name in PARTS:
            kinds = [field.type, *getattr(field.type, "__args__", ())]
            (part,) = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
            found += [f"{field.encode_name}.{inner.encode_name}" for inner in msgspec.structs.fields(part)]
        else:
            found.append(field.encode_name)
    return found


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    assert sorted(ROWS) == sorted(fields())


@pytest.mark.parametrize("path", sorted(set(ROWS.values())))
def test_the_tests_that_are_named_are_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_every_client_is_listed() -> None:
    assert [name for name in agenttask_llm_clients() if f"\n| `{name}` | " not in PAGE] == []


@pytest.mark.parametrize("client", [openai, anthropic, scripted], ids=lambda module: module.__name__)
def test_every_parameter_of_a_client_is_listed(client) -> None:
    name = client.__name__.removeprefix("agenttask_llm.")
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | `"))
    assert [parameter for parameter in client._PARAMETERS if f"`{parameter}`" not in rows] == []


def test_the_files_of_the_table_of_wrappers_are_there() -> None:
    folder = ROOT / "operator" / "agenttask" / "runner" / "llm"
    named = set(re.findall(r"`(\w+\.py)`", PAGE.split("## What a call goes through")[1].split("##")[0]))
    assert {name for name in named if not (folder / name).is_file()} == set()
    without = {"__init__.py", "endpoints.py", "stopwatch.py", "stream.py"}  # what the wrappers share
    assert {path.name for path in folder.glob("*.py")} - named == without
