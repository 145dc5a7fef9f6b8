"""From checked files and a command line to tasks that can run here, each with a station of its own."""

import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console

from agenttask.api.errors import InvalidTask
from agenttask.api.task import AgentTask
from agenttask.cli.checking import Checked
from agenttask.cli.local import Given, LocalTask, prepare
from agenttask.cli.manifests import InvalidFile
from agenttask.cli.progress import Board, TaskProgress
from agenttask.domain.machine_limits import explained
from agenttask.domain.nearest import did_you_mean, listed
from agenttask.plugin.registry import Plugins
from agenttask.runner.cgroup import cpu_count, full_cpu_count, memory_limit
from agenttask.runner.checkpoint_store import FileStore
from agenttask.runner.devices import visible_accelerators
from agenttask.runner.engines import Engines
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.log import Log
from agenttask.runner.log_queue import LineStream, QueuedStream
from agenttask.runner.observer import Observers
from agenttask.runner.places import places
from agenttask.runner.settings import RunnerSettings, read_settings
from agenttask.runner.slots import Slots
from agenttask.runner.station import Station
from agenttask.runner.termination import LastReport
from agenttask.runner.tracing import Tracing
from agenttask.telemetry.setup import configure

_NAMESPACE = uuid.UUID("6f1c8a52-51f0-4a55-9d52-6c0f7f0ab1d4")
"""Of the uids that local tasks get: a task of the same name is the same task, so that its checkpoint is its own."""


class RunOptions(Struct, frozen=True, kw_only=True):
    """The command line of `run`."""

    tasks: tuple[str, ...] = ()
    """Which ones; all of the files without it."""
    inputs: Mapping[str, Path] = {}
    params: Mapping[str, str] = {}
    workspace: Path | None = None
    keep: bool = False
    max_tasks: int = 10
    max_steps: int | None = None
    hosts: tuple[str, ...] = ()
    hub: bool = False
    checkpoint: Path | None = None


class LocalRun(Struct, frozen=True, kw_only=True):
    """One task, ready to run."""

    local: LocalTask
    settings: RunnerSettings
    station: Station
    say: Callable[[str, str], None]
    """A line of the process's log, which is of no single task."""

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


def prepared_runs(
    checked: Checked,
    options: RunOptions,
    plugins: Plugins,
    credentials: Mapping[str, str],
    environ: Mapping[str, str],
    stack: ExitStack,
) -> list[LocalRun]:
    """The chosen tasks, ready to run; what they need until the end goes with `stack`.

    Raises:
        InvalidFile: something that a task needs is not given.
    """
    tasks = choose(checked.tasks, options.tasks)
    given = Given(
        models=checked.models, others=checked.others, folders=options.inputs, credentials=credentials, hosts=options.hosts, hub=options.hub
    )
    _known_to_one(tasks, given.claims, options)
    with _writing(f"a temporary folder in {tempfile.gettempdir()!r}"):
        scratch = Path(tempfile.mkdtemp(prefix="agenttask-run-"))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        locals_ = [_prepared(task, given, options, scratch) for task in tasks]
    if options.checkpoint is not None:
        with _writing(f"--checkpoint {str(options.checkpoint)!r}"):
            options.checkpoint.mkdir(parents=True, exist_ok=True)
    settings = [_settings(local, environ, kept=options.workspace is not None) for local in locals_]
    watch, say = _watch(len(tasks), stack)
    traced = _tracing(environ, stack)
    engines = Engines(plugins.model_factories.choose, settings[0], log=lambda message: say("models", message))
    slots = None if options.max_steps is None else Slots(options.max_steps, {})
    runs: list[LocalRun] = []
    for local, own in zip(locals_, settings, strict=True):
        name = local.document.task.name
        watching = watch(name)
        station = Station(
            plugins=plugins,
            settings=own,
            places=places(_workspace(options, name, len(tasks), stack), local.inputs),
            scratch=scratch,
            credentials=local.credentials,
            search_path=environ.get("PATH", os.defpath),
            accelerators=visible_accelerators(),
            observer=watching,
            channel=LastReport(),
            log=watching.line,
            engines=engines,
            slots=slots,
            endpoints=runs[0].station.endpoints if runs else Endpoints(log=watching.line),
            checkpoint=None if options.checkpoint is None else FileStore(options.checkpoint / f"{name}.json"),
            version=version("agenttask"),
        )
        runs.append(LocalRun(local=local, settings=own, station=traced(station), say=say))
    return runs


def _known_to_one(tasks: Sequence[AgentTask], claims: Collection[str], options: RunOptions) -> None:
    """An input or param of no task is a mistake; with several tasks it goes to those that have it."""
    for flag, names, known in (
        ("--input", options.inputs, {each.name for task in tasks for each in task.spec.inputs} | set(claims)),
        ("--param", options.params, {name for task in tasks for name in task.spec.params}),
    ):
        for name in names:
            if name not in known:
                has = "the task has no" if len(tasks) == 1 else "no task has a"
                raise InvalidFile([f"{flag}: {has} {flag[2:]} {name!r}; there are: {listed(known)}{did_you_mean(name, known)}"])


def _prepared(task: AgentTask, given: Given, options: RunOptions, scratch: Path) -> LocalTask:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    params = {name: value for name, value in options.params.items() if name in task.spec.params}
    uid = str(uuid.uuid5(_NAMESPACE, f"{task.metadata.namespace or 'default'}/{task.metadata.name}"))
    own = scratch / task.metadata.name
    own.mkdir()
    try:
        return prepare(task, given, params=params, scratch=own, uid=uid, created=created)
    except InvalidTask as error:
        raise InvalidFile([f"task {task.metadata.name!r}: {error}"]) from error


def _settings(local: LocalTask, environ: Mapping[str, str], *, kept: bool) -> RunnerSettings:
    try:
        found = read_settings(local.document.spec, environ, cpus=cpu_count(), full_cpus=full_cpu_count(), memory_bytes=memory_limit())
    except InvalidTask as error:
        raise InvalidFile([f"task {local.document.task.name!r}: {error}"]) from error
    return msgspec.structs.replace(found, workspace_kept=found.workspace_kept or kept)


def _workspace(options: RunOptions, name: str, tasks: int, stack: ExitStack) -> Path:
    """The task's own: with several tasks a folder below the one that is given."""
    if options.workspace is not None:
        given = options.workspace if tasks == 1 else options.workspace / name
        with _writing(f"--workspace {str(given)!r}"):
            given.mkdir(parents=True, exist_ok=True)
        return given
    folder = new_workspace()
    if options.keep:
        stack.callback(print, f"workspace{'' if tasks == 1 else f' of {name}'}: {folder}", file=sys.stderr)
    else:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_workspace() -> Path:
    """A temporary one.

    Raises:
        InvalidFile: it cannot be made.
    """
    with _writing(f"a workspace in {tempfile.gettempdir()!r}"):
        return Path(tempfile.mkdtemp(prefix="agenttask-workspace-"))


@contextmanager
def _writing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidFile([f"{what} cannot be made or written: {explained(error)}"]) from error


def _watch(tasks: int, stack: ExitStack) -> tuple[Callable[[str], Log | TaskProgress], Callable[[str, str], None]]:
    """What shows a task's progress, and lines of none: in a picture on a terminal, in a log elsewhere, whose reader nobody waits for."""
    console = Console(stderr=True)
    if console.is_terminal:
        board = Board(console, time.monotonic)
        return board.task, board.say
    stream = QueuedStream(sys.stderr)
    stack.callback(stream.close)
    log = Log(stream, time.time)
    return lambda name: log if tasks == 1 else NamedLog(stream, name), log.line


class NamedLog(Log):
    """The log of one task among several: every line has the task's name before it."""

    def __init__(self, stream: LineStream, name: str) -> None:
        super().__init__(stream, time.time)
        self._name = name

    def line(self, about: str, message: str) -> None:
        """One line."""
        super().line(about if about == f"task {self._name}" else f"{self._name}: {about}", message)


def _tracing(environ: Mapping[str, str], stack: ExitStack) -> Callable[[Station], Station]:
    """What makes a trace of a station's run, where the environment names an OTLP endpoint; one pipeline for all."""
    telemetry = configure(environ, service="agenttask-run", version=version("agenttask"))
    if telemetry is None:
        return lambda station: station
    stack.callback(telemetry.close)

    def traced(station: Station) -> Station:
        tracing = Tracing(telemetry, environ, time.time_ns)
        return msgspec.structs.replace(
            station,
            observer=Observers([station.observer, tracing]),
            http_traces=(tracing.http_trace(),),
            step_environment=tracing.step_environment,
        )

    return traced
