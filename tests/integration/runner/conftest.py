"""A pod's surroundings in a folder: the runner as a process of its own, with a third party's step kinds installed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agenttask.api.report import MalformedReport, Report, decode

PLUGIN = '''
import asyncio, os, subprocess, time
from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.step import StepOutput


class Kind:
    schema = dict

    def __init__(self, function):
        self.run = function


async def say(config, context):
    return StepOutput(text=config["text"])


async def sleep(config, context):
    path = context.files.writable("sleeping")
    path.write_text("")
    await asyncio.sleep(config["seconds"])
    return StepOutput()


async def block(config, context):
    """Holds up the event loop."""
    time.sleep(config["seconds"])
    return StepOutput()


async def stubborn(config, context):
    """Does not end when it is cancelled."""
    context.files.writable("sleeping").write_text("")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


async def command(config, context):
    """Runs a command as a careless plugin does: its own session, never waited for."""
    process = await asyncio.create_subprocess_exec(
        *config["command"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=dict(context.environment)
    )
    if config.get("leave"):
        context.files.writable("child").write_text(str(process.pid))
        return StepOutput()
    out, _ = await process.communicate()
    return StepOutput(text=out.decode(), exit_code=process.returncode)


async def environment(config, context):
    return StepOutput(text=" ".join(sorted(os.environ)) + " OMP=" + os.environ["OMP_NUM_THREADS"])


@hookimpl
def agenttask_step_kinds():
    kinds = {"say": say, "sleep": sleep, "stubborn": stubborn, "command": command, "block": block, "environment": environment}
    return {name: (lambda function=function: Kind(function)) for name, function in kinds.items()}
'''


class Pod:
    """One runner process with its folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("workspace", "inputs", "scratch", "site"):
            (root / name).mkdir()
        (root / "site" / "process_kinds.py").write_text(PLUGIN)
        metadata = root / "site" / "process_kinds-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: process-kinds\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[agenttask]\nprocess_kinds = process_kinds\n")
        self.process: subprocess.Popen[str] | None = None

    def start(
        self,
        *steps: dict[str, Any],
        raw: str | None = None,
        variables: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "agenttask.runner.main"),
    ) -> None:
        """Start the runner on a document of these steps; `program` is what Python is given."""
        named = [{"name": f"s{index}", **step} for index, step in enumerate(steps)]
        document = {"version": 1, "task": {"name": "demo", "namespace": "n", "uid": "u"}, "attempt": 3, "spec": {"steps": named}}
        (self.root / "document.json").write_text(json.dumps(document) if raw is None else raw)
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.root / "site"), *(entry for entry in sys.path if entry)]),
            "AGENTTASK_DOCUMENT": str(self.root / "document.json"),
            "AGENTTASK_TERMINATION": str(self.root / "termination"),
            "AGENTTASK_WORKSPACE": str(self.root / "workspace"),
            "AGENTTASK_INPUTS": str(self.root / "inputs"),
            "AGENTTASK_SCRATCH": str(self.root / "scratch"),
            **(variables or {}),
        }
        self.process = subprocess.Popen(
            [sys.executable, *program],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
            cwd=self.root / "workspace",
        )

    def until(self, holds: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something is so; the log is shown when it never is."""
        assert self.process is not None
        end = time.monotonic() + seconds
        while True:
            over = self.process.poll() is not None or time.monotonic() > end  # before the look: it may be so with the last thing done
            if holds():
                return
            if over:
                self.process.kill()
                raise AssertionError(self.process.communicate()[0])
            time.sleep(0.01)

    def sleeping(self) -> bool:
        """Whether the step that sleeps has begun."""
        return (self.root / "workspace" / "sleeping").exists()

    @property
    def waits(self) -> str:
        """A script that says it is there, and goes on when the file `go` is."""
        return f"touch {self.root}/workspace/sleeping; until test -e {self.root}/go; do sleep 0.02; done"

    def took(self, number: signal.Signals) -> bool:
        """Whether the runner has taken every such signal: two that wait for it at the same moment are one."""
        assert self.process is not None
        lines = (line.partition(":") for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        waiting = [int(value, 16) for name, _, value in lines if name in ("SigPnd", "ShdPnd")]
        return not any(each >> (number - 1) & 1 for each in waiting)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the runner."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, seconds: float = 120) -> tuple[int, str]:
        """Exit code and log."""
        assert self.process is not None
        log, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, log

    def report(self) -> Report:
        """What stands in the termination message."""
        return decode((self.root / "termination").read_bytes())

    def has_report(self) -> bool:
        """Whether a report is there yet."""
        try:
            self.report()
        except (OSError, MalformedReport):
            return False
        return True


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    found = Pod(tmp_path)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.communicate()


def step(kind: str, **fields: Any) -> dict[str, Any]:
    return {"plugin": {"kind": kind, "with": fields}}


@pytest.fixture
def plugin_step() -> Callable[..., dict[str, Any]]:
    """A step of one of the installed kinds."""
    return step
