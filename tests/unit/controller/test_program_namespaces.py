"""The whole controller where one of its namespaces is forbidden from the start, and comes later."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer, PodRun
from tests.fakes.controller_program import model, node, program, said, success, task

from agenttask.controller import namespaces, probes, reflector, sweep
from agenttask.controller.backoff import Backoff
from agenttask.controller.program import Controller

BOTH = "namespaces=[team-a, team-b]"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApiServer]:
    monkeypatch.setattr(reflector, "REFUSED", Backoff(initial=0.2, maximum=0.2))
    monkeypatch.setattr(namespaces, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(namespaces, "MOST_DELAY", 0.2)
    async with FakeApiServer(bookmark_seconds=0.3) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        yield server


def phase_in(server: FakeApiServer, namespace: str, name: str) -> str | None:
    found = server.get("agenttasks", name, namespace=namespace) or {}
    return (found.get("status") or {}).get("phase")


async def done(server: FakeApiServer, namespace: str, name: str) -> None:
    await server.until(lambda: phase_in(server, namespace, name) == "Succeeded")


async def served(controller: Controller, server: FakeApiServer) -> None:
    await server.until(lambda: controller.ready() is None)


@pytest.mark.parametrize("refused", ["team-b", "team-b/agentmodels", "team-b/agenttasks", "team-b/pods"])
async def test_a_namespace_that_is_forbidden_holds_up_its_own_tasks_only(server: FakeApiServer, refused: str) -> None:
    server.fail_next("GET", f"/namespaces/{refused}", 403, times=10_000)
    for namespace in ("team-a", "team-b"):
        server.put("agenttasks", task("before"), namespace=namespace)
    async with program(server, BOTH, wait_until_ready=False) as controller:
        await done(server, "team-a", "before")
        server.put("agenttasks", task("later"), namespace="team-b")
        await asyncio.sleep(0.5)
        assert (controller.ready(), controller.alive()) == (None, None)
        missing = controller.missing() or ""
        assert missing.startswith("namespace team-b: ")
        assert "forbidden" in missing.lower()
        assert "team-a" not in missing
        assert [path for _, path in server.writes if "team-b" in path] == []
        server.heal()
        await done(server, "team-b", "before")
        await done(server, "team-b", "later")
        await server.until(lambda: controller.missing() is None)
        assert not controller.failed.is_set()

    assert sorted(pod["metadata"]["namespace"] for pod in server.objects("pods")) == ["team-a", "team-b", "team-b"]


async def test_ended_pods_are_let_go_where_tasks_are_known_and_kept_where_they_are_not_yet(server: FakeApiServer) -> None:
    """One namespace that stayed forbidden had the finished pods of all of them kept for ever."""
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server, BOTH):
        for namespace in ("team-a", "team-b"):
            server.put("agenttasks", task("t"), namespace=namespace)
        await server.until(lambda: {phase_in(server, one, "t") for one in ("team-a", "team-b")} == {"Running"})
    for pod in server.objects("pods"):
        server.kubelet.end(pod["metadata"]["name"], said("meanwhile"), namespace=pod["metadata"]["namespace"])
    server.fail_next("GET", "/namespaces/team-b/agenttasks", 403, times=10_000)
    async with program(server, BOTH, wait_until_ready=False) as controller:
        await done(server, "team-a", "t")
        kept = controller._world.pods.owners
        await server.until(lambda: len(list(kept())) == 1)
        server.heal()
        await done(server, "team-b", "t")
        await server.until(lambda: not list(kept()))

    found = server.get("agenttasks", "t", namespace="team-b") or {}
    assert (found["status"]["output"], found["status"]["attempt"]) == ("meanwhile", 1)


async def test_where_all_are_forbidden_it_is_not_ready_and_says_why(server: FakeApiServer) -> None:
    server.fail_next("GET", "/pods", 403, times=10_000)
    async with program(server, BOTH, wait_until_ready=False) as controller:
        await server.until(lambda: "team-b/pods is forbidden" in (controller.ready() or ""))
        assert "the first lists are not complete" in (controller.ready() or "")
        server.heal()
        await served(controller, server)


async def test_rights_that_come_a_moment_late_are_waited_for(server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "PATIENCE_SECONDS", 60.0)
    server.fail_next("GET", "/namespaces/team-b/pods", 403, times=2)
    async with program(server, BOTH, wait_until_ready=False) as controller:
        await served(controller, server)
        assert controller._namespaces.held == set()
        assert controller._namespaces.known == ["team-a", "team-b"]


async def test_rights_that_are_revoked_later_cost_the_others_neither_readiness_nor_the_sweep(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.1)
    async with program(server, BOTH) as controller:
        for namespace in ("team-a", "team-b"):
            server.put("agenttasks", task("waits", queue="none"), namespace=namespace)
            server.put("agentmodels", model("small"), namespace=namespace)
        await server.until(lambda: len(controller._world.tasks) == 2 and len(controller._world.models.names()) == 2)
        server.fail_next("GET", "/namespaces/team-b/", 403, times=10_000)
        server.drop_watches()
        await server.until(lambda: controller.missing() is not None)
        server.stall_watches()
        for namespace in ("team-a", "team-b"):
            server.remove("agenttasks", "waits", namespace=namespace)
            server.remove("agentmodels", "small", namespace=namespace)
        await server.until(lambda: len(controller._world.tasks) == 1 and controller._world.models.names() == [("team-b", "small")])
        assert controller.ready() is None
        server.heal()
        await server.until(lambda: not len(controller._world.tasks) and not controller._world.models.names())


async def test_without_any_right_left_it_is_not_ready(server: FakeApiServer) -> None:
    async with program(server, BOTH) as controller:
        server.fail_next("GET", "/pods", 403, times=10_000)
        server.drop_watches()
        await server.until(lambda: "team-a/pods is forbidden; namespace team-b: " in (controller.ready() or ""))
        server.heal()
        await served(controller, server)


async def test_what_is_missing_is_told_beside_a_good_answer() -> None:
    bad, missing = list[str](), list[str]()
    told = {"alive": lambda: None, "ready": lambda: next(iter(bad), None), "missing": lambda: next(iter(missing), None)}
    async with probes.serve(0, **told) as port, aiohttp.ClientSession() as session:

        async def answer(path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as found:
                return found.status, await found.text()

        assert await answer("/readyz") == (200, "ok")
        missing.append("namespace team-b: forbidden")
        assert await answer("/readyz") == (200, "ok, but namespace team-b: forbidden")
        assert await answer("/healthz") == (200, "ok")
        bad.append("all is forbidden")
        assert await answer("/readyz") == (503, "all is forbidden")
