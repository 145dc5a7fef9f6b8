"""The whole controller in this process, on the fake API server: the real kopf, reflectors, queue and drivers.

    async with FakeApiServer() as server:
        server.put("nodes", node())
        async with program(server) as controller:
            server.put("agenttasks", task("a"))
            await ended(server, "a")

It is joined as `bootstrap.serve` joins it; only signals and probes are left to the tests of the process itself.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import kopf
import pytest
from msgspec import Struct

from agenttask.api import report as reports
from agenttask.api.report import Report, StepReport
from agenttask.controller import kopf_app
from agenttask.controller.bootstrap import make
from agenttask.controller.credentials import Credentials
from agenttask.controller.kube import KubeClient
from agenttask.controller.login import Connection
from agenttask.controller.observer import NoObserver
from agenttask.controller.program import Controller
from agenttask.controller.settings import read_settings
from agenttask.domain import deadlines
from agenttask.plugin.registry import Plugins, load
from tests.fakes.apiserver import FakeApiServer, PodRun

STEPS = ({"name": "say", "exec": {"command": ["true"]}},)


def task(name: str, **spec: Any) -> dict[str, Any]:
    """An AgentTask of one step."""
    return {"metadata": {"name": name}, "spec": {"steps": list(STEPS), **spec}}


def asking(name: str, model: str, **spec: Any) -> dict[str, Any]:
    """An AgentTask that asks a model."""
    return task(name, steps=[{"name": "say", "chat": {"model": model, "prompt": "Hello"}}], **spec)


def model(name: str, **spec: Any) -> dict[str, Any]:
    """An AgentModel with scripted answers."""
    return {"metadata": {"name": name}, "spec": {"client": "scripted", "model": "none", **spec}}


def node(name: str = "node-1") -> dict[str, Any]:
    """A node without devices; where there is no node, tasks wait for one."""
    return {"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi"}}}


def said(output: str = "done") -> str:
    """The termination message of a run that succeeded."""
    return reports.encode(Report(done=True, started=1, steps=(StepReport(0, "S", 0, 5),), output=output)).decode()


def success(pod: Mapping[str, Any]) -> PodRun:
    """A run that ends at once and well."""
    return PodRun(message=said(pod["metadata"]["name"]))


def status(server: FakeApiServer, name: str) -> dict[str, Any]:
    """A task's status; empty if it has none."""
    found = server.get("agenttasks", name)
    return (found or {}).get("status") or {}


async def phase(server: FakeApiServer, name: str, *wanted: str, seconds: float = 60.0) -> dict[str, Any]:
    """The task's status once its phase is one of these."""
    await server.until(lambda: status(server, name).get("phase") in wanted, seconds)
    return status(server, name)


async def ended(server: FakeApiServer, name: str, seconds: float = 60.0) -> dict[str, Any]:
    """The task's status once it is final."""
    return await phase(server, name, "Succeeded", "Failed", seconds=seconds)


def nothing_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no state lasts long enough to be worth a write, however slow the machine is: only the end is told."""
    for name in ("WAITING_SETTLES", "RUNNING_SETTLES"):
        monkeypatch.setattr(deadlines, name, 3600.0)


class Running(Struct):
    """A controller at work in a thread of its own: kopf counts every later task of its loop as one that it must end."""

    controller: Controller
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


@asynccontextmanager
async def program(
    server: FakeApiServer,
    *flags: str,
    plugins: Plugins | None = None,
    request_timeout: float = 5.0,
    stream_silence: float = 60.0,
    wait_until_ready: bool = True,
) -> AsyncIterator[Controller]:
    """The controller, running; `flags` are settings, `stream_silence` is how long a watch may say nothing."""
    settings = read_settings(config=None, environ={}, flags=flags)
    chosen = plugins or load(allowed_distributions=settings.plugins.allowed_distributions)
    made: Future[Running] = Future()

    async def serve() -> None:
        async with Connection(Credentials(server=server.url)) as connection:
            client = KubeClient(connection.session, connection.server, request_timeout=request_timeout, stream_silence=stream_silence)
            controller = make(settings, client, chosen, NoObserver())
            kopfs = kopf_app.settings()
            kopfs.watching.inactivity_timeout = stream_silence
            kopfs.watching.reconnect_backoff = 0.05
            kopfs.networking.error_backoffs = (0.1,) * 20
            stop = asyncio.Event()
            made.set_result(Running(controller, asyncio.get_running_loop(), stop))
            await kopf.operator(
                registry=kopf_app.registry(controller, connection.login()),
                settings=kopfs,
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                standalone=True,
                stop_flag=stop,
            )

    before = len(server.requests)
    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, serve()))
    running = await asyncio.wrap_future(made)
    try:
        if wait_until_ready:
            await server.until(lambda: running.controller.ready() is None and _streams(server, before))
        yield running.controller
    finally:
        running.loop.call_soon_threadsafe(running.stop.set)
        await thread


def _streams(server: FakeApiServer, before: int) -> bool:
    """Whether kopf watches both kinds."""
    asked = [path for _, path in server.requests[before:] if "watch=true" in path]
    return all(any(f"/{plural}?" in path for path in asked) for plural in ("agenttasks", "agentmodels"))
