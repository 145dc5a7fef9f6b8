"""`agenttask run`: the same steps as in a pod, on this machine; several tasks run beside each other in this one process.

Each task has its own workspace, models, secrets and scratch folder, made when it starts and gone when it ends. What they
share is the limit on how many run at once, and the one on steps.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct
from rich.console import Console

from agenttask.api.errors import DeadlineExceeded, InvalidTask
from agenttask.api.task import AgentTask
from agenttask.cli.checking import Checked
from agenttask.cli.local import Given, LocalTask, prepare
from agenttask.cli.manifests import InvalidFile
from agenttask.cli.progress import Board, TaskProgress
from agenttask.domain.nearest import did_you_mean, listed
from agenttask.plugin.registry import Plugins
from agenttask.runner.cgroup import cpu_count, memory_limit
from agenttask.runner.devices import visible_accelerators
from agenttask.runner.log import Log
from agenttask.runner.observer import Observers
from agenttask.runner.places import places
from agenttask.runner.run import Outcome, Station, TaskRun
from agenttask.runner.settings import RunnerSettings, read_settings
from agenttask.runner.stop import Stop, leave_at_once
from agenttask.runner.termination import LastReport
from agenttask.runner.tracing import Tracing
from agenttask.telemetry.setup import configure


class RunOptions(Struct, frozen=True, kw_only=True):
    """The command line of `run`."""

    tasks: tuple[str, ...] = ()
    """Which ones; all of the files without it."""
    inputs: Mapping[str, Path] = {}
    params: Mapping[str, str] = {}
    workspace: Path | None = None
    keep: bool = False
    max_tasks: int = 10
    hosts: tuple[str, ...] = ()
    hub: bool = False


class LocalRun(Struct, frozen=True, kw_only=True):
    """One task, ready to run."""

    local: LocalTask
    settings: RunnerSettings
    station: Station

    @property
    def name(self) -> str:
        """The task's."""
        return self.local.document.task.name


def choose(tasks: Sequence[AgentTask], names: Sequence[str]) -> tuple[AgentTask, ...]:
    """The tasks that are to run, in the order of the files.

    Raises:
        InvalidFile: there is none, one that is named is not there, or two have one name.
    """
    there = [task.metadata.name for task in tasks]
    if not tasks:
        raise InvalidFile(["no AgentTask is in the files"])
    for name in names:
        if name not in there:
            raise InvalidFile([f"no AgentTask {name!r} is in the files; there are: {listed(there)}{did_you_mean(name, there)}"])
    found = tuple(task for task in tasks if not names or task.metadata.name in names)
    twice = next((name for name in there if [task.metadata.name for task in found].count(name) > 1), None)
    if twice is not None:
        raise InvalidFile([f"two AgentTasks are called {twice!r}; rename one"])
    return found


def run_local(
    checked: Checked, options: RunOptions, plugins: Plugins, credentials: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[Outcome, ...]:
    """Run the chosen tasks to their ends; progress goes to standard error. The outcomes are in the order of the files.

    Raises:
        InvalidFile: something that a task needs is not given.
    """
    tasks = choose(checked.tasks, options.tasks)
    given = Given(
        models=checked.models, others=checked.others, folders=options.inputs, credentials=credentials, hosts=options.hosts, hub=options.hub
    )
    with ExitStack() as stack:
        scratch = Path(tempfile.mkdtemp(prefix="agenttask-run-"))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        _known_to_one(tasks, given.claims, options)
        locals_ = [_prepared(task, given, options, scratch) for task in tasks]
        watch = _watch(len(tasks))
        runs = []
        for local in locals_:
            settings = _settings(local, environ)
            workspace = _workspace(options, local.document.task.name, len(tasks), stack)
            station = _station(local, settings, plugins, workspace, scratch, environ, watch(local.document.task.name))
            runs.append(LocalRun(local=local, settings=settings, station=_traced(station, environ, stack)))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(execute(runs, max_tasks=options.max_tasks))


async def execute(runs: Sequence[LocalRun], *, max_tasks: int) -> tuple[Outcome, ...]:
    """All of them, `max_tasks` at once, begun in their order."""
    gate = asyncio.Semaphore(max_tasks)
    running: set[TaskRun] = set()
    why = "stopped from the terminal"

    def ask() -> None:
        for task in running:
            task.stop(why)

    stop = Stop(
        grace_seconds=max(run.settings.grace_seconds for run in runs),
        ask=ask,
        give_up=lambda: None,
        leave=leave_at_once,
    )
    stop.listen(asyncio.get_running_loop())

    async def one(run: LocalRun) -> Outcome:
        async with gate, TaskRun(run.local.document, run.station) as task:
            running.add(task)
            try:
                if stop.requested:
                    task.stop(why)
                return await _in_time(task, run.local.document.spec.active_deadline_seconds)
            finally:
                running.discard(task)

    return tuple(await asyncio.gather(*(one(run) for run in runs)))


async def _in_time(task: TaskRun, seconds: int) -> Outcome:
    """The outcome; `activeDeadlineSeconds` holds here as it does in a cluster, where the controller keeps to it."""
    late = f"ran longer than activeDeadlineSeconds, {seconds} s"
    timer = asyncio.get_running_loop().call_later(seconds, task.stop, late)
    outcome = await task.execute()
    expired = timer.when() <= asyncio.get_running_loop().time()
    timer.cancel()
    if expired and outcome.error is not None and outcome.error.retryable:
        return msgspec.structs.replace(outcome, error=DeadlineExceeded(late), message=late)
    return outcome


def _known_to_one(tasks: Sequence[AgentTask], claims: Collection[str], options: RunOptions) -> None:
    """An input or param of no task is a mistake; with several tasks it goes to those that have it."""
    for flag, names, known in (
        ("--input", options.inputs, {each.name for task in tasks for each in task.spec.inputs} | set(claims)),
        ("--param", options.params, {name for task in tasks for name in task.spec.params}),
    ):
        for name in names:
            if name not in known:
                has = "the task has" if len(tasks) == 1 else "no task has"
                no = f" no {flag[2:]}" if len(tasks) == 1 else f" a {flag[2:]}"
                raise InvalidFile([f"{flag}: {has}{no} {name!r}; there are: {listed(known)}{did_you_mean(name, known)}"])


def _prepared(task: AgentTask, given: Given, options: RunOptions, scratch: Path) -> LocalTask:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    params = {name: value for name, value in options.params.items() if name in task.spec.params}
    own = scratch / task.metadata.name
    own.mkdir()
    try:
        return prepare(task, given, params=params, scratch=own, uid=str(uuid.uuid4()), created=created)
    except InvalidTask as error:
        raise InvalidFile([f"task {task.metadata.name!r}: {error}"]) from error


def _settings(local: LocalTask, environ: Mapping[str, str]) -> RunnerSettings:
    try:
        return read_settings(local.document.spec, environ, cpus=cpu_count(), memory_bytes=memory_limit())
    except InvalidTask as error:
        raise InvalidFile([f"task {local.document.task.name!r}: {error}"]) from error


def _workspace(options: RunOptions, name: str, tasks: int, stack: ExitStack) -> Path:
    """The task's own: with several tasks a folder below the one that is given."""
    if options.workspace is not None:
        given = options.workspace if tasks == 1 else options.workspace / name
        given.mkdir(parents=True, exist_ok=True)
        return given
    folder = Path(tempfile.mkdtemp(prefix="agenttask-workspace-"))
    if options.keep:
        stack.callback(print, f"workspace{'' if tasks == 1 else f' of {name}'}: {folder}", file=sys.stderr)
    else:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _watch(tasks: int) -> Callable[[str], Log | TaskProgress]:
    """What shows a task's progress: a part of the picture on a terminal, lines of the log elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        return Board(console, time.monotonic).task
    return lambda name: Log(sys.stderr, time.time) if tasks == 1 else NamedLog(name)


class NamedLog(Log):
    """The log of one task among several: every line has the task's name before it."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr, time.time)
        self._name = name

    def line(self, about: str, message: str) -> None:
        """One line."""
        super().line(about if about == f"task {self._name}" else f"{self._name}: {about}", message)


def _station(
    local: LocalTask,
    settings: RunnerSettings,
    plugins: Plugins,
    workspace: Path,
    scratch: Path,
    environ: Mapping[str, str],
    watching: Log | TaskProgress,
) -> Station:
    return Station(
        plugins=plugins,
        settings=settings,
        places=places(workspace, local.inputs),
        scratch=scratch,
        credentials=local.credentials,
        search_path=environ.get("PATH", os.defpath),
        accelerators=visible_accelerators(),
        observer=watching,
        channel=LastReport(),
        log=watching.line,
    )


def _traced(station: Station, environ: Mapping[str, str], stack: ExitStack) -> Station:
    """The station with its run as a trace, where the environment names an OTLP endpoint."""
    telemetry = configure(environ, service="agenttask-run", version=version("agenttask"))
    if telemetry is None:
        return station
    stack.callback(telemetry.close)
    tracing = Tracing(telemetry, environ, time.time_ns)
    return msgspec.structs.replace(
        station,
        observer=Observers([station.observer, tracing]),
        http_traces=(tracing.http_trace(),),
        step_environment=tracing.step_environment,
    )
