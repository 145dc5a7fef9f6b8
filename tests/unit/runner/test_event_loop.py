"""What a runner's loop gives to threads stands behind it for the processor."""

import asyncio
import os
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import uvloop

from agenttask.api.document import TaskDocument, TaskRef, encode
from agenttask.api.steps import Step, Write
from agenttask.api.task import AgentTaskSpec
from agenttask.cli import main, running
from agenttask.plugin.niceness import NICER
from agenttask.runner import bootstrap
from agenttask.runner.credentials import take_credentials
from agenttask.runner.event_loop import new_event_loop
from agenttask.runner.leaks import look


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a nice value is the process's")
def test_threads_of_the_loop_are_nicer_than_it() -> None:
    before = nice()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
        assert runner.run(asyncio.to_thread(nice)) == min(19, before + NICER)
        assert nice() == before


def test_they_are_no_leak_and_end_with_the_loop() -> None:
    async def seen() -> set[str]:
        await asyncio.to_thread(nice)
        return {thing.what for thing in look().values() if thing.kind == "thread"}

    before = {thread.name for thread in threading.enumerate()}
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        found = runner.run(seen())
    assert not any(name.startswith("asyncio") for name in found - before)
    assert {thread.name for thread in threading.enumerate()} <= before


class OwnLoop(Exception):
    """The loop of a run was asked for."""


def asked_for() -> asyncio.AbstractEventLoop:
    raise OwnLoop


def test_a_pods_run_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = AgentTaskSpec(steps=(Step(name="note", write=Write(path="a", content="b")),))
    document = TaskDocument(task=TaskRef(name="t", namespace="n", uid="u"), spec=spec)
    (tmp_path / "document").write_text(encode(document))
    monkeypatch.setattr(bootstrap, "new_event_loop", asked_for)
    paths = {f"AGENTTASK_{name}": str(tmp_path / name.lower()) for name in ("DOCUMENT", "TERMINATION", "WORKSPACE", "INPUTS", "SCRATCH")}
    with pytest.raises(OwnLoop):
        bootstrap.run_document(take_credentials({}), paths)


@pytest.mark.parametrize("watched", [False, True], ids=["once", "--watch"])
def test_agenttask_run_has_it(watched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "task.json").write_bytes(
        msgspec.json.encode(
            {
                "apiVersion": "agenttask.dev/v1alpha1",
                "kind": "AgentTask",
                "metadata": {"name": "t"},
                "spec": {"steps": [{"name": "note", "write": {"path": "a", "content": "b"}}]},
            }
        )
    )
    monkeypatch.setattr(main if watched else running, "new_event_loop", asked_for)
    with pytest.raises(OwnLoop):
        main.run_command(["run", str(tmp_path / "task.json"), *["--watch"] * watched])
