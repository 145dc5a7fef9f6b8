"""One task from its creation to its end, in this process: the controller's tracing around a real run with fake plugins."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agenttask.api import report as reports
from agenttask.api.document import TaskDocument
from agenttask.api.meta import ObjectMeta
from agenttask.api.reasons import Phase, Reason
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.tracing import Tracing as ControllerTracing
from agenttask.domain.moment import render
from agenttask.domain.observation import SeenPod, SeenTask, Terminated
from agenttask.runner.places import places
from agenttask.runner.run import Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import LastReport
from agenttask.runner.tracing import Tracing as RunnerTracing
from agenttask.telemetry.pipeline import Telemetry
from agenttask.telemetry.setup import configure
from tests.fakes.runner_plugins import plugins

FLUSH_SECONDS = 60.0
"""The programs give a collector three; here it is asked what arrives, not how fast."""
CANARY = "canary-4b1d"
"""Stands in every text of the task: params, prompt, answer, output."""
MODEL = {"name": "small", "client": "answering", "model": "gpt-small"}
STEPS = (
    {"name": "first", "plugin": {"kind": "echo", "with": {"text": CANARY, "model": "small"}}},
    {"name": "beside", "needs": [], "plugin": {"kind": "echo", "with": {"text": CANARY, "model": "small"}}},
    {"name": "last", "needs": ["first", "beside"], "plugin": {"kind": "echo", "with": {"text": "{{ steps.first.text }}"}}},
)


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller knows of a task that has ended."""

    task: SeenTask
    status: AgentTaskStatus
    pod: SeenPod


def pipeline(endpoint: str, service: str) -> Telemetry:
    """A pipeline as a program makes it."""
    telemetry = configure({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, service=service)
    assert telemetry is not None
    return telemetry


async def live(uid: str, folder: Path, endpoint: str) -> Ended:
    """Run the task's pod and send the runner's spans; the controller has sent none yet."""
    created = time.time() - 3
    document: dict[str, Any] = {"attempt": 1, "models": [MODEL], "spec": {"params": {"p": CANARY}, "steps": STEPS}}
    document["task"] = {"name": "demo", "namespace": "agents", "uid": uid}
    found = msgspec.convert(document, TaskDocument)
    metadata = ObjectMeta(name="demo", namespace="agents", uid=uid, creation_timestamp=render(created))
    task = SeenTask(metadata=metadata, spec=found.spec)
    environ = _pod_environment(task, endpoint)
    telemetry = pipeline(environ["OTEL_EXPORTER_OTLP_ENDPOINT"], "agenttask-runner")
    tracing = RunnerTracing(telemetry, environ, time.time_ns)
    for name in ("workspace", "scratch"):
        (folder / name).mkdir()
    channel = LastReport()
    station = Station(
        plugins=plugins(),
        settings=RunnerSettings(),
        places=places(folder / "workspace", {}),
        scratch=folder / "scratch",
        credentials={},
        observer=tracing,
        channel=channel,
        log=lambda about, message: None,
        step_environment=tracing.step_environment,
    )
    async with TaskRun(found, station) as run:
        outcome = await run.execute()
    telemetry.close(FLUSH_SECONDS)
    assert outcome.error is None
    ended = float(int(time.time()))
    message = reports.encode(outcome.report).decode()
    pod = SeenPod(
        name="demo-1",
        uid=f"pod-of-{uid}",
        owner=uid,
        created=float(int(created + 1)),
        node="node-1",
        terminated=Terminated(message=message, started=float(int(created + 2)), finished=ended),
    )
    status = AgentTaskStatus(phase=Phase.SUCCEEDED, reason=Reason.SUCCEEDED, output=outcome.output, completion_time=render(ended))
    return Ended(task=task, status=status, pod=pod)


def controller_sends(ended: Ended, endpoint: str) -> None:
    """A controller that has just seen the end sends its spans, and stops."""
    telemetry = pipeline(endpoint, "agenttask-controller")
    ControllerTracing(telemetry, {}).task_finished(ended.task, ended.status, ended.pod)
    telemetry.close(FLUSH_SECONDS)


def _pod_environment(task: SeenTask, endpoint: str) -> Mapping[str, str]:
    telemetry = pipeline(endpoint, "agenttask-controller")
    environ = ControllerTracing(telemetry, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).environment_for(task, 1, "demo-1")
    telemetry.close(FLUSH_SECONDS)
    return environ
