"""A namespace goes away on a real cluster, and our rights in it before its last pod: nothing of ours holds it up."""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace
from tests.e2e.observed import administrator, server, story
from tests.faults.api import Api, Object
from tests.faults.checker import End, History, check
from tests.faults.control_plane import rendered
from tests.faults.controller import ControllerProcess
from tests.faults.eventually import eventually
from tests.faults.history import Recorder
from tests.faults.paths import path
from tests.faults.plan import Plan
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.cluster
GONE_SECONDS = 240.0
QUIET_SECONDS = 15.0


def task(name: str, command: str, **spec: Any) -> dict[str, Any]:
    steps = [{"name": "say", "exec": {"command": ["sh", "-c", command]}}]
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": steps, **spec}}


@pytest.fixture
def places(release: Namespace) -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """Three namespaces: one that goes, one that stays, and that of the controller."""
    names = [f"{word}-{secrets.token_hex(3)}" for word in ("goes", "stays", "operators")]
    found = [Namespace(name=name, environment=release.environment) for name in names]
    for one in found:
        one.kubectl("create", "namespace", one.name)
    try:
        yield found[0], found[1], found[2]
    finally:
        for one in found:
            one.kubectl("delete", "namespace", one.name, "--wait=false", "--ignore-not-found")
        for kind in ("clusterrole", "clusterrolebinding"):  # named after the release, which is named after its namespace
            names = [one for one in found[2].kubectl("get", kind, "-o", "name").split() if found[2].name in one]
            if names:
                found[2].kubectl("delete", *names)


async def test_a_namespace_goes_away_under_a_task_that_runs_and_one_that_waits(
    places: tuple[Namespace, Namespace, Namespace], images: Mapping[str, str], tmp_path: Path
) -> None:
    """The controller lives on and serves the other namespace; it asks for nothing in a loop, neither meanwhile nor afterwards."""
    goes, stays, operators = places
    rights = rendered(operators.name, (goes.name, stays.name), operators.name)
    with administrator(operators) as client:
        async with client as api, Recorder(api, goes.name) as recorder, FaultProxy(server(goes), Plan(0)) as proxy:
            token = await installed(api, rights, operators)
            controller = ControllerProcess(
                tmp_path, proxy.url, token, (goes.name, stays.name), f"images.runner={images['runner']}", "nodes=false"
            )
            async with controller:
                await controller.ready()
                await asyncio.to_thread(goes.apply, task("runs", "sleep 600"), task("waits", "true", queue="none-such"))
                await recorder.until_phase("runs", "Running", seconds=90)
                await recorder.until(lambda: recorder.status("waits").get("reason") == "UnknownQueue", 90)
                before, began = len(proxy.seen), time.monotonic()
                await api.delete(path("namespaces", name=goes.name))
                await asyncio.to_thread(stays.apply, task("goes-on", "true"))
                await eventually(lambda: gone(api, goes.name), GONE_SECONDS, f"the end of namespace {goes.name}")
                status = await asyncio.to_thread(stays.ended, "goes-on")
                meanwhile = [one for one in proxy.seen[before:] if one.namespace == goes.name]
                after, lasted = len(proxy.seen), time.monotonic() - began
                await asyncio.sleep(QUIET_SECONDS)
                late = [one for one in proxy.seen[after:] if one.namespace == goes.name]

            assert status["phase"] == "Succeeded", status
            ends = {"runs": End(gone=True), "waits": End(gone=True)}
            history = History(versions=recorder.versions, log=controller.log, secrets=[token])
            assert check(history, ends) == [], story(recorder, "runs")
            assert (controller.restarts, controller.starts) == (0, 1), controller.log[-3000:]
            assert len(recorder.ever("runs")) == 1
            assert recorder.ever("waits") == []
            assert sum(one.mutating for one in meanwhile) <= max(6, lasted / 10), [one.key for one in meanwhile]
            assert len(meanwhile) <= max(60, lasted), [one.key for one in meanwhile]
            assert len(late) <= QUIET_SECONDS, [one.key for one in late]


async def installed(api: Api, rights: Sequence[Object], operators: Namespace) -> str:
    """The token of a controller that has these rights from now on; what is cluster-wide of them goes with the fixture."""
    for one in rights:
        await api.create(path(f"{one['kind'].lower()}s", one["metadata"].get("namespace")), one)
    account = next(one["metadata"]["name"] for one in rights if one["kind"] == "ServiceAccount")
    return operators.kubectl("create", "token", account, "--duration=1h").strip()


async def gone(api: Api, namespace: str) -> bool:
    """Whether it is."""
    return await api.find(path("namespaces", name=namespace)) is None
