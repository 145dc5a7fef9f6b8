"""Finished tasks go when their time to live is over: those that end now, and those found by listing."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import task

from agenttask.api.reasons import Phase
from agenttask.api.task import AgentTaskStatus
from agenttask.controller import expiry
from agenttask.controller.expiry import LIST_SECONDS, Expiry
from agenttask.controller.kube import KubeClient
from agenttask.controller.task_cache import read_task
from agenttask.domain.moment import render

NOW = 1_800_000_000.0


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[KubeClient]:
    async with aiohttp.ClientSession() as session:
        yield KubeClient(session, server.url)


def ended(server: FakeApiServer, name: str, *, ago: float, phase: str = "Succeeded", **spec: Any) -> None:
    server.put("agenttasks", {**task(name, **spec), "status": {"phase": phase, "completionTime": render(NOW - ago)}})


def names(server: FakeApiServer) -> list[str]:
    return sorted(one["metadata"]["name"] for one in server.objects("agenttasks"))


async def test_finished_tasks_past_their_time_are_deleted_and_no_others(server: FakeApiServer, client: KubeClient) -> None:
    for phase in (phase for phase in Phase if phase.terminal):
        ended(server, f"old-{phase.lower()}", ago=100, phase=phase, ttlSecondsAfterFinished=60)
    ended(server, "young", ago=10, ttlSecondsAfterFinished=60)
    ended(server, "kept", ago=10_000)
    server.put("agenttasks", task("runs", ttlSecondsAfterFinished=0))
    found = Expiry(client, client, [None], clock=lambda: NOW)

    await found.find()

    assert await found.delete_due() == 3
    assert names(server) == ["kept", "runs", "young"]
    assert len(found) == 1


async def test_what_falls_due_after_the_next_list_is_not_held(server: FakeApiServer, client: KubeClient) -> None:
    ended(server, "later", ago=0, ttlSecondsAfterFinished=int(LIST_SECONDS) + 60)
    ended(server, "soon", ago=0, ttlSecondsAfterFinished=int(LIST_SECONDS) - 60)
    found = Expiry(client, client, [None], clock=lambda: NOW)

    await found.find()
    await found.find()

    assert len(found) == 1


async def test_what_is_held_is_bounded(server: FakeApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "MOST_NOTED", 2)
    for number in range(4):
        ended(server, f"t{number}", ago=100, ttlSecondsAfterFinished=1)
    found = Expiry(client, client, [None], clock=lambda: NOW)

    for left in (2, 0):
        await found.find()
        assert await found.delete_due() == 2
        assert len(names(server)) == left


async def test_a_task_that_ends_now_is_noted_and_another_of_its_name_is_spared(server: FakeApiServer, client: KubeClient) -> None:
    old = read_task(server.put("agenttasks", task("a", ttlSecondsAfterFinished=5)))
    assert old is not None
    now = [NOW]
    found = Expiry(client, client, [None], clock=lambda: now[0])
    found.note(old, AgentTaskStatus(phase=Phase.FAILED, completion_time=render(NOW)))
    server.remove("agenttasks", "a")
    server.put("agenttasks", task("a"))

    assert await found.delete_due() == 0
    now[0] += 7
    assert await found.delete_due() == 0
    assert (names(server), len(found)) == (["a"], 0)


async def test_what_the_server_refuses_comes_again(server: FakeApiServer, client: KubeClient) -> None:
    ended(server, "a", ago=100, ttlSecondsAfterFinished=1)
    now = [NOW]
    found = Expiry(client, client, [None], clock=lambda: now[0])
    await found.find()
    server.fail_next("DELETE", "/agenttasks", 503)

    assert await found.delete_due() == 0
    now[0] += 31
    assert await found.delete_due() == 1
    assert names(server) == []


async def test_refusals_are_as_slow_as_deletions_and_keep_nobody_else(
    server: FakeApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that is down was asked again for the next of thousands as soon as it had refused one."""
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr(expiry.asyncio, "sleep", nap)
    for name in ("a", "b", "c"):
        ended(server, name, ago=100, ttlSecondsAfterFinished=1)
    found = Expiry(client, client, [None], clock=lambda: NOW)
    await found.find()
    server.fail_next("DELETE", "/agenttasks/(a|b)$", 503, times=2)

    assert await found.delete_due() == 1
    assert (names(server), len(found), naps) == (["a", "b"], 2, [1 / expiry.DELETES_PER_SECOND] * 3)


async def test_a_namespace_that_is_forbidden_keeps_no_other_ones_tasks(server: FakeApiServer, client: KubeClient) -> None:
    ended(server, "a", ago=100, ttlSecondsAfterFinished=10)
    server.fail_next("GET", "/namespaces/forbidden/", 403, times=10)
    found = Expiry(client, client, ["forbidden", "default"], clock=lambda: NOW)

    await found.find()

    assert await found.delete_due() == 1
    assert names(server) == []
