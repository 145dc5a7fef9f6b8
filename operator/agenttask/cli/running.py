"""`agenttask run`: the same steps as in a pod, on this machine."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct
from rich.console import Console

from agenttask.api.errors import Interrupted, InvalidTask
from agenttask.api.task import AgentTask
from agenttask.cli.checking import Checked
from agenttask.cli.local import Given, LocalTask, prepare
from agenttask.cli.manifests import InvalidFile
from agenttask.cli.progress import LiveProgress
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

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED = 0, 1, 2, 130


class RunOptions(Struct, frozen=True, kw_only=True):
    """The command line of `run`."""

    task: str | None = None
    inputs: Mapping[str, Path] = {}
    params: Mapping[str, str] = {}
    workspace: Path | None = None
    keep: bool = False


def choose(tasks: Sequence[AgentTask], name: str | None) -> AgentTask:
    """The one task that is to run.

    Raises:
        InvalidFile: there is none, or it is not clear which.
    """
    found = [task for task in tasks if name in (None, task.metadata.name)]
    names = ", ".join(task.metadata.name for task in tasks) or "none"
    if not found:
        raise InvalidFile([f"no AgentTask{'' if name is None else f' {name!r}'} is in the files; there are: {names}"])
    if len(found) > 1:
        raise InvalidFile([f"the files have several AgentTasks, choose one with --task: {names}"])
    return found[0]


def run_local(
    checked: Checked, options: RunOptions, plugins: Plugins, credentials: Mapping[str, str], environ: Mapping[str, str]
) -> Outcome:
    """Run one task to its end; progress goes to standard error.

    Raises:
        InvalidFile: something that the task needs is not given.
    """
    task = choose(checked.tasks, options.task)
    given = Given(models=checked.models, others=checked.others, folders=options.inputs, credentials=credentials)
    with ExitStack() as stack:
        scratch = Path(tempfile.mkdtemp(prefix="agenttask-run-"))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        workspace = _workspace(options, stack)
        try:
            uid = str(uuid.uuid4())
            local = prepare(
                task, given, params=options.params, scratch=scratch, uid=uid, created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            )
            settings = read_settings(local.document.spec, environ, cpus=cpu_count(), memory_bytes=memory_limit())
        except InvalidTask as error:
            raise InvalidFile([f"task {task.metadata.name!r}: {error}"]) from error
        station = _traced(_station(local, settings, plugins, workspace, scratch, environ), environ, stack)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_execute(local, settings, station))


async def _execute(local: LocalTask, settings: RunnerSettings, station: Station) -> Outcome:
    async with TaskRun(local.document, station) as run:
        stop = Stop(
            grace_seconds=settings.grace_seconds,
            ask=lambda: run.stop("stopped from the terminal"),
            give_up=lambda: None,
            leave=leave_at_once,
        )
        stop.listen(asyncio.get_running_loop())
        return await run.execute()


def exit_code(outcome: Outcome) -> int:
    """What the shell sees."""
    match outcome.error:
        case None:
            return EXIT_SUCCEEDED
        case Interrupted():
            return EXIT_STOPPED
        case _:
            return EXIT_FAILED


def _workspace(options: RunOptions, stack: ExitStack) -> Path:
    if options.workspace is not None:
        options.workspace.mkdir(parents=True, exist_ok=True)
        return options.workspace
    folder = Path(tempfile.mkdtemp(prefix="agenttask-workspace-"))
    if options.keep:
        stack.callback(print, f"workspace: {folder}", file=sys.stderr)
    else:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _station(
    local: LocalTask, settings: RunnerSettings, plugins: Plugins, workspace: Path, scratch: Path, environ: Mapping[str, str]
) -> Station:
    console = Console(stderr=True)
    watching = LiveProgress(console, time.monotonic) if console.is_terminal else Log(sys.stderr, time.time)
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
