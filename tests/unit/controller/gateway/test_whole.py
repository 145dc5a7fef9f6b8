"""The whole controller with its gateway, on the fake API server: a pod's token, progress in status, an output from its record."""

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import asking, ended, model, node, phase, program, status, task
from tests.fakes.gateway_desk import SecretFolder
from tests.fakes.held_port import held_port

from agenttask.api import report as reports
from agenttask.api.constants import ANNOTATION_DOCUMENT, ENV_GATEWAY_TOKEN
from agenttask.api.gateway import CHECKPOINT_PATH, OUTPUT_PATH, REPORT_PATH
from agenttask.api.report import Report

STEPS = [{"name": name, "read": {"paths": ["a"]}} for name in ("one", "two")]


class Runner:
    """A pod's side: what its document and its environment say, and nothing else."""

    def __init__(self, pod: dict[str, Any]) -> None:
        self.pod: str = pod["metadata"]["name"]
        document = json.loads(pod["metadata"]["annotations"][ANNOTATION_DOCUMENT])
        variables = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
        self.attempt: int = document["attempt"]
        self._url = document["gateway"]["url"]
        self._tls = ssl.create_default_context(cadata=document["gateway"]["ca"])
        self._headers = {"Authorization": f"Bearer {variables[ENV_GATEWAY_TOKEN]}"}

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self._url + path, data=body, headers=self._headers, ssl=self._tls) as response,
        ):
            return response.status, await response.read()


@pytest.fixture
def flags(tmp_path: Path) -> Iterator[list[str]]:
    SecretFolder(tmp_path, host="localhost")
    with held_port() as port:
        yield [
            "gateway.enabled=true",
            f"gateway.port={port}",
            f"gateway.url=https://localhost:{port}",
            f"gateway.certificateDir={tmp_path}",
        ]


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        yield server


async def running(server: FakeApiServer, body: dict[str, Any] | None = None) -> Runner:
    """The runner of the task's pod, which has been running for a while."""
    server.put("agenttasks", body or task("a", steps=STEPS))
    await server.until(lambda: server.objects("pods"))
    (pod,) = server.objects("pods")
    began = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=30)
    state = {"running": {"startedAt": began.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    server.kubelet.set_status(pod["metadata"]["name"], {"phase": "Running", "containerStatuses": [{"name": "runner", "state": state}]})
    await phase(server, "a", "Running")
    return Runner(pod)


def end(server: FakeApiServer, runner: Runner, **fields: Any) -> None:
    server.kubelet.end(runner.pod, reports.encode(Report(done=True, **fields)).decode())


async def test_progress_is_shown_while_the_pod_runs_and_its_token_ends_with_it(server: FakeApiServer, flags: list[str]) -> None:
    async with program(server, *flags):
        runner = await running(server)
        assert (await runner.ask("POST", REPORT_PATH, b'{"steps": [[0, "S", 0, 5], [1, "R", 5]]}'))[0] == 200
        await server.until(lambda: status(server, "a").get("progress") == "1/2")
        assert [step["phase"] for step in status(server, "a")["steps"]] == ["Succeeded", "Running"]
        written = len(server.writes)
        assert (await runner.ask("POST", REPORT_PATH, b'{"steps": [[0, "S", 0, 5], [1, "S", 5, 5]]}'))[0] == 200
        await asyncio.sleep(0.1)
        assert len(server.writes) == written  # the next one is due in ten seconds
        end(server, runner, output="done")
        assert (await ended(server, "a"))["progress"] == "2/2"
        assert (await runner.ask("POST", REPORT_PATH, b"{}"))[0] == 403


@pytest.mark.parametrize(("length", "in_status"), [(5000, True), (20000, False)], ids=["fits the status", "does not"])
async def test_a_large_output_comes_by_its_record(server: FakeApiServer, flags: list[str], length: int, in_status: bool) -> None:
    async with program(server, *flags):
        runner = await running(server)
        assert (await runner.ask("PUT", OUTPUT_PATH, b"x" * length))[0] == 204
        end(server, runner, output_stored=True)
        found = await ended(server, "a")
    (record,) = server.objects("agenttaskrecords")
    assert found["phase"] == "Succeeded"
    assert found.get("output") == ("x" * length if in_status else None)
    assert found.get("outputRef") == (
        None if in_status else {"kind": "AgentTaskRecord", "name": record["metadata"]["name"], "key": "output"}
    )
    assert record["output"] == "x" * length


async def test_an_output_that_was_stored_before_the_controller_was_restarted_is_found(server: FakeApiServer, flags: list[str]) -> None:
    async with program(server, *flags):
        runner = await running(server)
        await runner.ask("PUT", OUTPUT_PATH, b"kept")
    end(server, runner, output_stored=True)
    async with program(server, *flags):
        assert (await ended(server, "a"))["output"] == "kept"


async def test_the_next_attempt_finds_the_checkpoint_and_the_first_is_fenced(server: FakeApiServer, flags: list[str]) -> None:
    async with program(server, *flags):
        first = await running(server)
        assert (await first.ask("PUT", CHECKPOINT_PATH, b"half of it"))[0] == 204
        server.remove("pods", first.pod, graceful=False)
        await server.until(lambda: status(server, "a").get("endedAttempts") == 1)
        assert (await first.ask("PUT", CHECKPOINT_PATH, b"too late"))[0] == 403
        await server.until(lambda: server.objects("pods"))
        (pod,) = server.objects("pods")
        second = Runner(pod)
        assert second.attempt == 2
        assert await second.ask("GET", CHECKPOINT_PATH) == (200, b"half of it")


async def test_where_a_local_model_is_elsewhere_the_shares_are_those_of_that_one(server: FakeApiServer, flags: list[str]) -> None:
    server.put("agentmodels", model("small", client="local", local={"package": "weights", "remoteModel": "large"}))
    server.put("agentmodels", model("large", limits={"concurrentCalls": 4}))
    async with program(server, *flags, "deviceClasses=[{name: cpu}, {name: far, kind: remote}]"):
        runner = await running(server, asking("a", "small", device={"classes": ["far"]}))
        answered, body = await runner.ask("POST", REPORT_PATH, b"{}")
    assert (answered, json.loads(body)["limits"]) == (200, {"small": {"concurrentCalls": 4}})
