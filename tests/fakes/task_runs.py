"""One task run in this process with fake step kinds, for tests of how steps run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agenttask.api.document import TaskDocument
from agenttask.api.report import Report
from agenttask.domain.graph import StepGraph
from agenttask.plugin.step import StepContext
from agenttask.runner.keeping import Keeper
from agenttask.runner.observer import NullObserver, Observer
from agenttask.runner.places import places
from agenttask.runner.run import Outcome, Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import LastReport
from tests.fakes.runner_plugins import FunctionKind, Threads, plugins

Kind = Callable[[dict[str, Any], StepContext], Any]


def step(name: str, with_: Mapping[str, Any] | None = None, *, kind: str = "echo", **fields: Any) -> dict[str, Any]:
    """A step of a plugin's kind, as on the wire."""
    return {"name": name, "plugin": {"kind": kind, "with": dict(with_ or {})}, **fields}


def document(*steps: dict[str, Any], models: Any = (), **spec: Any) -> TaskDocument:
    """A task document."""
    task = {"name": "demo", "namespace": "agents", "uid": "u-1"}
    return msgspec.convert({"task": task, "spec": {"steps": steps, **spec}, "models": models}, TaskDocument)


class Stage:
    """Runs documents below `folder`; `kinds` are coroutine functions by the step kind's name."""

    def __init__(self, folder: Path, **kinds: Kind) -> None:
        self.channel = LastReport()
        self.lines: list[str] = []
        self.threads: Callable[[Any], Threads] = Threads
        self._folder = folder
        self._kinds = kinds
        for name in ("workspace", "scratch"):
            (folder / name).mkdir(exist_ok=True)

    def make(self, found: TaskDocument, observer: Observer | None = None, *, keeper: Keeper | None = None) -> TaskRun:
        """A run that has not started; there is no chance in its pauses."""
        station = Station(
            plugins=plugins(kinds={name: FunctionKind(kind) for name, kind in self._kinds.items()}, threads=self.threads),
            settings=RunnerSettings(max_concurrent_steps=found.spec.execution.max_concurrent_steps),
            places=places(self._folder / "workspace", {}),
            scratch=self._folder / "scratch",
            credentials={},
            observer=observer or NullObserver(),
            channel=self.channel,
            log=lambda about, message: self.lines.append(f"{about}: {message}"),
            rng=lambda: 0.0,
        )
        return TaskRun(found, station) if keeper is None else _Kept(found, station, keeper)

    async def run(self, found: TaskDocument, observer: Observer | None = None) -> Outcome:
        """Run it to its end."""
        async with self.make(found, observer) as run:
            return await run.execute()


class _Kept(TaskRun):
    """A run whose finished work goes to, and comes from, a keeper of the test's."""

    def __init__(self, found: TaskDocument, station: Station, keeper: Keeper) -> None:
        super().__init__(found, station)
        self._given = keeper

    async def _checkpointing(self, graph: StepGraph) -> Any:
        return self._given


def codes(report: Report) -> str:
    """The steps' states in one word."""
    return "".join(each.code for each in report.steps)
