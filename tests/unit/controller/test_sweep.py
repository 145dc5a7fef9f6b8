"""What vanished while kopf was not watching is found by listing."""

import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import model, task

from agenttask.controller import sweep
from agenttask.controller.kube import KubeClient
from agenttask.controller.surroundings import Models
from agenttask.controller.sweep import Sweeper, load_models
from agenttask.controller.task_cache import TaskCache, read_task
from agenttask.domain.moment import parse


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[KubeClient]:
    async with aiohttp.ClientSession() as session:
        yield KubeClient(session, server.url)


async def test_what_is_not_listed_any_more_is_forgotten_and_looked_at(server: FakeApiServer, client: KubeClient) -> None:
    tasks, models, woken = TaskCache(), Models(lambda _: None), list[str]()
    for name in ("kept", "gone"):
        server.put("agentmodels", model(name))
        read = read_task(server.put("agenttasks", task(name)))
        assert read is not None
        tasks.put(read)
    await load_models(client, ["default"], models)
    gone = server.get("agenttasks", "gone")
    assert gone is not None
    server.remove("agenttasks", "gone")
    server.remove("agentmodels", "gone")

    await Sweeper(client, [None], tasks, models, woken.append, clock=time.time).sweep()

    assert woken == [gone["metadata"]["uid"]]
    assert len(tasks) == 1
    assert models.names() == [("default", "kept")]


async def test_a_sweep_that_fails_is_repeated(
    server: FakeApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    naps = 0

    async def nap(_: float) -> None:
        nonlocal naps
        naps += 1
        if naps > 2:
            raise TimeoutError

    monkeypatch.setattr(sweep.asyncio, "sleep", nap)
    server.fail_next("GET", "/agenttasks", 503)

    with pytest.raises(TimeoutError):
        await Sweeper(client, [None], TaskCache(), Models(lambda _: None), lambda _: None, clock=time.time).run()

    assert "sweep failed: 503" in caplog.text


async def test_what_the_stream_did_not_tell_of_is_taken_in_and_told(server: FakeApiServer, client: KubeClient) -> None:
    tasks, woken = TaskCache(), list[str]()
    missed = server.put("agenttasks", task("missed"))
    server.put("agenttasks", task("over") | {"status": {"phase": "Failed"}})
    now = [parse(missed["metadata"]["creationTimestamp"]) or 0.0]
    sweeper = Sweeper(client, [None], tasks, Models(lambda _: None), woken.append, clock=lambda: now[0])

    await sweeper.sweep()
    assert (woken, sweeper.deaf) == ([], 0)  # it may still be on its way
    now[0] += sweep.OVERDUE_SECONDS
    await sweeper.sweep()
    assert (woken, sweeper.deaf) == ([missed["metadata"]["uid"]], 1)
    await sweeper.sweep()
    assert sweeper.deaf == 0
