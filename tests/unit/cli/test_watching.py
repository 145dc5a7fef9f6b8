"""A change runs the tasks again, and what nothing has changed for is taken over."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.runner_plugins import plugins

from agenttask.cli.checking import check
from agenttask.cli.manifests import read_files
from agenttask.cli.preparing import RunOptions, prepared_runs
from agenttask.cli.schemas import packaged_schemas
from agenttask.cli.watching import file_changes, watch
from agenttask.plugin.step import StepOutput


def of_kind(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


MODEL = of_kind("AgentModel", "m", client="answering", model="x")


def echo(name: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "plugin": {"kind": "echo", "with": {"text": text, **fields}}}


ENV = {"env": [{"name": "K", "secretKeyRef": {"name": "s", "key": "k"}}]}


def secret(value: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": value}}


class ShowSecrets:
    schema = dict[str, Any]

    async def run(self, config: dict[str, Any], context: Any) -> Any:
        return StepOutput(text=str(dict(context.secrets)))


class Hang:
    """A step that has begun, and does not end."""

    schema = dict[str, Any]

    def __init__(self, begun: asyncio.Event) -> None:
        self.begun = begun

    async def run(self, config: dict[str, Any], context: Any) -> Any:
        self.begun.set()
        await asyncio.Event().wait()


HANG = {"name": "b", "plugin": {"kind": "hang", "with": {}}}


class Desk:
    """A person who edits a file: each edit is what the file has before the next change, the last one ends the watch."""

    def __init__(self, folder: Path, *edits: Any) -> None:
        self.folder = folder
        self.edits = list(edits)
        self.said: list[str] = []
        self.outputs: list[list[str | None]] = []
        self.stopping, self.waiting, self.begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._write(self.edits.pop(0))

    def _write(self, steps: Any) -> None:
        text = steps if isinstance(steps, str) else yaml.safe_dump_all([of_kind("AgentTask", "t", steps=steps), MODEL])
        (self.folder / "t.yaml").write_text(text)

    def prepare(self, stack: ExitStack) -> Any:
        found = plugins(kinds={"exec": ShowSecrets(), "hang": Hang(self.begun)})
        checked = check(read_files([self.folder / "t.yaml"]), packaged_schemas(), step_kinds=found.step_kinds.names)
        return prepared_runs(checked, RunOptions(workspace=self.folder / "ws"), found, {}, os.environ, stack)

    def show(self, _runs: Any, outcomes: Any) -> None:
        self.outputs.append([outcome.output for outcome in outcomes])
        self.calls = [outcome.usage.calls for outcome in outcomes]

    async def changes(self, *, meanwhile: bool = False) -> AsyncIterator[int]:
        for edit in self.edits:
            await (self.begun if meanwhile else self.waiting).wait()
            self.waiting.clear()
            self._write(edit)
            yield 1
        await self.waiting.wait()
        self.stopping.set()
        await asyncio.sleep(3600)

    def say(self, line: str) -> None:
        self.said.append(line)
        if "waiting" in line:
            self.waiting.set()

    async def work(self, **options: Any) -> Any:
        async with asyncio.timeout(60):
            return await watch(self.prepare, self.show, self.changes(**options), stopping=self.stopping, max_tasks=5, say=self.say)


async def test_an_edit_runs_only_what_has_changed(tmp_path: Path) -> None:
    first = echo("a", "one", model="m")
    desk = Desk(tmp_path, [first, echo("b", "two", model="m")], [first, echo("b", "{{ steps.a.text }}, three", model="m")])
    outcomes = await desk.work()
    assert desk.outputs == [["x: two"], ["x: x: one, three"]]
    assert (desk.calls, outcomes[0].output) == ([1], "x: x: one, three")  # `a` was not asked again


async def test_a_step_whose_secret_has_changed_runs_again(tmp_path: Path) -> None:
    steps = [echo("a", "one", model="m"), *({"name": name, "exec": {"command": ["x"], **env}} for name, env in (("b", ENV), ("c", {})))]
    edits = [
        yaml.safe_dump_all([of_kind("AgentTask", "t", steps=steps, output="{{ steps.b.text }}"), MODEL, secret(value)])
        for value in ("first", "second")
    ]
    desk = Desk(tmp_path, *edits)
    await desk.work()
    assert desk.outputs == [["{'K': 'first'}"], ["{'K': 'second'}"]]
    assert desk.calls == [0]  # `a` was not asked again


async def test_a_file_that_is_broken_is_told_and_waited_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [echo("a", "one")], "kind: [", [echo("a", "two")])
    await desk.work()
    assert desk.outputs == [["one"], ["two"]]
    assert any("t.yaml: line 1" in line for line in desk.said)


async def test_a_change_while_tasks_run_stops_them_and_keeps_what_they_had_finished(tmp_path: Path) -> None:
    first = echo("a", "one", model="m")
    desk = Desk(tmp_path, [first, HANG], [first, echo("b", "{{ steps.a.text }}")])
    await desk.work(meanwhile=True)
    assert (desk.outputs, desk.calls) == ([["x: one"]], [0])


async def _path(changes: AsyncIterator[Any], name: str) -> None:
    """Wait until this one has changed; an earlier change may be told late, or twice."""
    while not any(path.endswith(name) for _, path in await anext(changes)):
        pass


async def test_files_are_watched_through_replacement_and_folders_in_depth(tmp_path: Path) -> None:
    folder, file = tmp_path / "in", tmp_path / "t.yaml"
    (folder / "deep").mkdir(parents=True)
    file.write_text("1")
    stopping = asyncio.Event()
    changes = file_changes([file], [folder], stopping)
    async with asyncio.timeout(60):
        for number, act in enumerate(("replace", "below", "replace")):
            waiting = asyncio.ensure_future(_path(changes, "x" if act == "below" else "t.yaml"))
            while not waiting.done():
                (tmp_path / "other.yaml").write_text(str(number))
                if act == "replace":
                    (tmp_path / "new").write_text(str(number))
                    (tmp_path / "new").replace(file)
                else:
                    (folder / "deep" / "x").write_text(str(time.time()))
                await asyncio.wait({waiting}, timeout=0.5)
            await waiting
    await changes.aclose()
    stopping.set()


async def test_an_error_while_preparing_that_is_no_mistake_of_a_file_is_raised(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [echo("a", "one")])

    def broken(_stack: ExitStack) -> Any:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await watch(broken, desk.show, desk.changes(), stopping=desk.stopping, max_tasks=1, say=desk.say)


async def _waits(stderr: asyncio.StreamReader) -> None:
    """Read until the program says that it waits for a change."""
    said = b""
    async for line in stderr:
        said += line
        if b"waiting for a change" in line:
            return
    raise AssertionError(f"it ended: {said.decode()}")


async def test_the_program_watches_until_it_is_told_to_stop(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"

    def write(content: str) -> None:
        step = {"name": "n", "write": {"path": "n.txt", "content": content}}
        new = tmp_path / "new"
        new.write_text(yaml.safe_dump(of_kind("AgentTask", "t", steps=[step], output=content)))
        new.replace(file)  # one change: half a file is none

    write("first")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agenttask.cli.main",
        "run",
        "--watch",
        "--keep",
        str(file),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(180):
        assert await process.stdout.readline() == b"first\n"
        await _waits(process.stderr)
        line = asyncio.ensure_future(process.stdout.readline())
        while not line.done():
            write("second")
            await asyncio.wait({line}, timeout=30)  # a change while tasks run would stop them
        assert line.result() == b"second\n"
        await _waits(process.stderr)
        process.send_signal(signal.SIGINT)
        _, rest = await process.communicate()
    assert process.returncode == 0
    kept = Path(rest.decode().splitlines()[-1].removeprefix("workspace: "))
    assert (kept / "n.txt").read_text() == "second"
    shutil.rmtree(kept)


async def test_an_input_that_changes_while_steps_run_counts_as_changed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    class WithInput(Desk):
        def _write(self, steps: Any) -> None:
            (folder / "a.md").write_text("x" * (1 + len(self.edits)))
            inputs = [{"name": "docs", "configMap": {"name": "docs"}}]
            (self.folder / "t.yaml").write_text(yaml.safe_dump_all([of_kind("AgentTask", "t", steps=steps, inputs=inputs), MODEL]))

        def prepare(self, stack: ExitStack) -> Any:
            found = plugins(kinds={"hang": Hang(self.begun)})
            checked = check(read_files([self.folder / "t.yaml"]), packaged_schemas(), step_kinds=found.step_kinds.names)
            options = RunOptions(workspace=self.folder / "ws", inputs={"docs": folder})
            return prepared_runs(checked, options, found, {}, os.environ, stack)

    first = echo("a", "one", model="m")
    desk = WithInput(tmp_path, [first, HANG], [first, echo("b", "{{ steps.a.text }}")])
    await desk.work(meanwhile=True)
    assert (desk.outputs, desk.calls) == ([["x: one"]], [1])  # `a` read what is there no more
