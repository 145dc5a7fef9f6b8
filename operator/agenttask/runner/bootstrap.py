"""The one constructor of the pod's program: from environment and document to an exit code.

Exit codes: 0 the task succeeded, 1 it failed, 2 the document or the image is broken, 143 it was stopped by SIGTERM. In
every case the termination message has the report; the exit code is for people and for other tools.
"""

import asyncio
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from agenttask.api.constants import DOCUMENT_PATH, INPUTS_PATH, SCRATCH_PATH, TERMINATION_PATH, WORKSPACE_PATH
from agenttask.api.document import TaskDocument, decode
from agenttask.api.errors import AgentTaskError, Interrupted, InvalidTask, UnknownPlugin
from agenttask.api.report import ErrorReport, Report
from agenttask.domain.resume import outlives_pod
from agenttask.plugin.registry import Plugins, load
from agenttask.runner.cgroup import cpu_count, full_cpu_count, memory_limit
from agenttask.runner.checkpoint_store import FileStore
from agenttask.runner.credentials import Credentials
from agenttask.runner.debug import leak_report, traced_memory
from agenttask.runner.descendants import kill_descendants
from agenttask.runner.devices import visible_accelerators
from agenttask.runner.event_loop import new_event_loop
from agenttask.runner.gpu_memory import nvidia_probe
from agenttask.runner.library_log import library_log
from agenttask.runner.log import Log
from agenttask.runner.log_queue import QueuedStream
from agenttask.runner.observer import Observer, Observers
from agenttask.runner.places import places
from agenttask.runner.resources import ResourceMonitor, ResourceObserver
from agenttask.runner.run import Station, TaskRun
from agenttask.runner.settings import RunnerSettings, read_settings
from agenttask.runner.stop import EXIT_STOPPED, Stop, leave_at_once
from agenttask.runner.termination import TerminationFile
from agenttask.runner.usage_probe import UsageProbe
from agenttask.telemetry.setup import configure

if TYPE_CHECKING:
    from agenttask.runner.gateway.link import GatewayAccess
    from agenttask.runner.output_store import Objects
    from agenttask.runner.tracing import Tracing
    from agenttask.telemetry.pipeline import Telemetry

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_BROKEN = 0, 1, 2
_LAST_WORDS_SECONDS = 1.0
_TENSOR_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Layout(Struct, frozen=True, kw_only=True):
    """Where things are in the pod; each can be moved by a variable, for tests and for other images."""

    document: Path
    termination: Path
    workspace: Path
    inputs: Path
    scratch: Path
    checkpoint: Path | None
    """None: this attempt takes over nothing and leaves nothing."""


class _Attempt(Struct):
    attempt: int = 1


def layout(environ: Mapping[str, str]) -> Layout:
    """The paths of this pod."""
    return Layout(
        document=Path(environ.get("AGENTTASK_DOCUMENT", DOCUMENT_PATH)),
        termination=Path(environ.get("AGENTTASK_TERMINATION", TERMINATION_PATH)),
        workspace=Path(environ.get("AGENTTASK_WORKSPACE", WORKSPACE_PATH)),
        inputs=Path(environ.get("AGENTTASK_INPUTS", INPUTS_PATH)),
        scratch=Path(environ.get("AGENTTASK_SCRATCH", SCRATCH_PATH)),
        checkpoint=Path(environ["AGENTTASK_CHECKPOINT"]) if environ.get("AGENTTASK_CHECKPOINT") else None,
    )


def run_document(credentials: Credentials, environ: MutableMapping[str, str]) -> int:
    """Run the pod's task; the exit code."""
    paths = layout(environ)
    stream = QueuedStream(sys.stdout)
    log = Log(stream, time.time)
    channel = TerminationFile(paths.termination)
    try:
        with library_log(log.line):
            return _run(paths, credentials, environ, log, channel, stream)
    finally:
        channel.close()
        stream.close()


def _run(
    paths: Layout,
    credentials: Credentials,
    environ: MutableMapping[str, str],
    log: Log,
    channel: TerminationFile,
    stream: QueuedStream,
) -> int:
    raw = b""
    try:
        raw = _read(paths.document)
        document = decode(raw)
        settings = read_settings(document.spec, environ, cpus=cpu_count(), full_cpus=full_cpu_count(), memory_bytes=memory_limit())
        settings = msgspec.structs.replace(settings, workspace_kept=settings.workspace_kept or outlives_pod(document.spec.workspace))
        environ.update(dict.fromkeys(_TENSOR_THREADS, str(settings.torch_threads)))  # read when numpy or torch is imported
        plugins = _plugins()
    except AgentTaskError as error:
        log.line("task", f"refused with {error.reason}: {error}")
        channel.write(Report(attempt=_attempt(raw), started=_now(), done=True, error=ErrorReport(reason=error.reason, message=str(error))))
        return EXIT_BROKEN
    gateway = _gateway(document, credentials, settings, log)
    telemetry = configure(environ, service="agenttask-runner", version=version("agenttask"))
    tracing = None if telemetry is None else _tracing(telemetry, environ)
    observers: list[Observer] = [log] if tracing is None else [log, tracing]
    station = Station(
        plugins=plugins,
        settings=settings,
        places=places(paths.workspace, {each.name: paths.inputs / each.name for each in document.spec.inputs}),
        scratch=paths.scratch,
        credentials=credentials.values,
        search_path=environ.get("PATH", os.defpath),
        accelerators=visible_accelerators(),
        observer=Observers(observers),
        channel=channel,
        log=log.line,
        checkpoint=None if paths.checkpoint is None else FileStore(paths.checkpoint),
        gateway=gateway,
        objects=_objects(document, credentials),
        version=version("agenttask"),
        http_traces=() if tracing is None else (tracing.http_trace(),),
        step_environment=dict if tracing is None else tracing.step_environment,
    )
    try:
        with (
            traced_memory(log.line) if settings.debug else contextlib.nullcontext(),
            asyncio.Runner(debug=settings.debug or None, loop_factory=new_event_loop) as runner,
        ):
            return runner.run(serve(document, station, leave=lambda: _leave(stream)))
    finally:
        if telemetry is not None:
            telemetry.close()


async def serve(document: TaskDocument, station: Station, *, leave: Callable[[], None], observers: Sequence[ResourceObserver] = ()) -> int:
    """Run the task until its end or SIGTERM; the exit code. `leave` ends the process where there is no time left."""
    settings = station.settings
    probe = UsageProbe(gpu=nvidia_probe(station.accelerators))
    async with (
        leak_report(station.log) if settings.debug else contextlib.nullcontext(),
        TaskRun(document, station) as run,
        ResourceMonitor(probe, cpus=settings.cpus, state=lambda: run.threading_state, observers=observers) as monitor,
    ):
        stop = Stop(
            grace_seconds=settings.grace_seconds,
            ask=lambda: run.stop_within("the runner was stopped (SIGTERM)", settings.patience_seconds),
            give_up=lambda: station.channel.write(run.interrupted()),
            leave=leave,
        )
        stop.listen(asyncio.get_running_loop())
        outcome = await run.execute()
        station.log("resources", await monitor.summary())
    # A command that left its process group may write to the message until it is killed; the last word is the runner's.
    kill_descendants(os.getpid())
    station.channel.write(outcome.report)
    if outcome.error is None:
        return EXIT_SUCCEEDED
    return EXIT_STOPPED if stop.requested and isinstance(outcome.error, Interrupted) else EXIT_FAILED


def _leave(stream: QueuedStream) -> None:
    """What was said is out, if its reader takes it; then the process is gone."""
    stream.close(seconds=_LAST_WORDS_SECONDS)
    leave_at_once()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidTask("", f"the task document {str(path)!r} cannot be read: {error.strerror}") from error


def _gateway(document: TaskDocument, credentials: Credentials, settings: RunnerSettings, log: Log) -> "GatewayAccess | None":
    """None where there is none, or it cannot be used: then the task runs as it can without."""
    if document.gateway is None:
        return None
    from agenttask.runner.gateway.errors import GatewayRefused
    from agenttask.runner.gateway.link import GatewayAccess

    try:
        return GatewayAccess.of(
            document.gateway,
            credentials.gateway_token,
            attempt=document.attempt,
            grace_seconds=settings.grace_seconds,
            log=log.line,
        )
    except GatewayRefused as error:
        log.line("gateway", f"not used: {error}")
        return None


def _objects(document: TaskDocument, credentials: Credentials) -> "Objects | None":
    if document.output_store is None:
        return None
    from agenttask.runner.objects import StoreObjects

    return StoreObjects(document.output_store, credentials.store)


def _tracing(telemetry: "Telemetry", environ: Mapping[str, str]) -> "Tracing":
    from agenttask.runner.tracing import Tracing  # with it aiohttp, which many tasks need not

    return Tracing(telemetry, environ, time.time_ns)


def _plugins() -> Plugins:
    try:
        return load()
    except Exception as error:
        traceback.print_exc()
        raise UnknownPlugin(f"a plugin of this image cannot be loaded: {type(error).__name__}: {error}") from error


def _attempt(raw: bytes) -> int:
    """The attempt of a document that is broken elsewhere, so that the controller takes the report for this pod's."""
    try:
        return msgspec.json.decode(raw, type=_Attempt).attempt
    except msgspec.MsgspecError:
        return 1


def _now() -> int:
    return int(time.time() * 1000)
