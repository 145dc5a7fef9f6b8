"""`agenttask run` tells what it used, and what it left open."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.runner_plugins import FunctionKind, plugins

from agenttask.cli import main
from agenttask.plugin.step import StepContext, StepOutput

LEFT: list[Any] = []


async def careless(config: dict[str, Any], context: StepContext) -> StepOutput:
    """Leaves a task and a file."""
    LEFT.append(asyncio.create_task(asyncio.sleep(600), name="forgotten"))
    LEFT.append(context.files.writable("open").open("wb"))
    return StepOutput()


def task(*steps: dict[str, Any]) -> dict[str, Any]:
    named = [{"name": f"s{number}", **step} for number, step in enumerate(steps)]
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "t"}, "spec": {"steps": named}}


def lines(err: str, about: str) -> list[str]:
    return [line for line in err.splitlines() if f" {about}: " in line]


def test_it_tells_what_the_process_used(agenttask: Callable[..., Any], file: Callable[..., Path]) -> None:
    two = [{**task({"write": {"path": "a", "content": "x"}}), "metadata": {"name": name}} for name in ("a", "b")]
    said = agenttask("run", file(*two))
    assert said.code == 0, said.err
    (line,) = lines(said.err, "resources")
    assert "processors; memory" in line
    assert not lines(said.err, "leaks")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_one_variable_tells_what_was_left_open(
    agenttask: Callable[..., Any], file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "load", lambda: plugins(kinds={"careless": FunctionKind(careless)}))
    monkeypatch.setenv("AGENTTASK_DEBUG", "1")
    said = agenttask("run", file(task({"plugin": {"kind": "careless"}})))
    for left in LEFT[1:]:
        left.close()
    assert said.code == 0, said.err
    told = [line.partition(" leaks: ")[2] for line in lines(said.err, "leaks")]
    assert [line.partition(":")[0] for line in told] == ["file left open", "task left open"]
    assert "/open (descriptor" in told[0]
    assert told[1].startswith("task left open: forgotten (sleep), made at ")
    assert f"{__file__}:" in told[1]
    assert len(lines(said.err, "memory")) > 3
