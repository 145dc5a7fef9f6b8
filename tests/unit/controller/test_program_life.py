"""Lives of tasks under the whole controller: what it writes, what it waits for, and what wakes it."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest
from tests.fakes.apiserver import FakeApiServer, PodRun
from tests.fakes.controller_program import asking, ended, model, node, nothing_settles, phase, program, said, status, success, task

from agenttask.controller import reflector
from agenttask.controller.kube_paths import pods_path, task_path

ONCE = {"maxInfrastructureRestarts": 0}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        yield server


@pytest.mark.usefixtures("only_ends")
async def test_a_task_that_ends_under_a_second_costs_two_writes(server: FakeApiServer) -> None:
    async with program(server):
        server.put("agenttasks", task("a"))
        found = await ended(server, "a")
        await asyncio.sleep(0.3)

    (pod,) = server.objects("pods")
    assert server.writes == [("POST", pods_path("default")), ("PATCH", f"{task_path('default', 'a')}/status")]
    assert (found["phase"], found["reason"], found["output"]) == ("Succeeded", "Succeeded", pod["metadata"]["name"])
    assert (found["podName"], found["attempt"], found["progress"]) == (pod["metadata"]["name"], 1, "1/1")


async def test_a_hundred_tasks_make_a_hundred_pods_and_leave_nothing_behind(server: FakeApiServer) -> None:
    async with program(server) as controller:
        for number in range(100):
            server.put("agenttasks", task(f"t{number}"))
        await server.until(lambda: all(status(server, f"t{number}").get("phase") == "Succeeded" for number in range(100)), 180)
        await server.until(lambda: not len(controller._world.tasks) and not len(controller._queue))

    made = [method for method, _ in server.writes]
    # On a machine so busy that a task takes a second, its waiting is told as well.
    assert (made.count("POST"), set(made)) == (100, {"POST", "PATCH"})
    assert len(server.objects("pods")) == 100


async def test_pods_of_finished_tasks_are_not_kept_in_memory(server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "PRUNED_ABOVE", 10)
    async with program(server) as before:
        for number in range(0, 40, 4):
            names = [f"t{number + one}" for one in range(4)]
            for name in names:
                server.put("agenttasks", task(name))
            for name in names:
                await ended(server, name)
        await server.until(lambda: not list(before._world.pods.owners()))
        kept = sum(len(one.items) for one in before._reflectors if one.path.endswith("/pods"))
    assert kept <= 10 + 2 * 4 + 1

    async with program(server) as after:
        server.put("agenttasks", task("new"))
        await ended(server, "new")
        await server.until(lambda: not list(after._world.pods.owners()))
        assert sum(len(one.items) for one in after._reflectors if one.path.endswith("/pods")) <= 1
    assert len(server.objects("pods")) == 41


async def test_tasks_are_listed_without_the_terminal_ones(server: FakeApiServer) -> None:
    server.put("agenttasks", task("old") | {"status": {"phase": "Failed"}})
    async with program(server) as controller:
        server.put("agenttasks", task("new"))
        await ended(server, "new")
        await server.until(lambda: not len(controller._world.tasks))

    lists = [unquote(path) for _, path in server.requests if "/agenttasks?" in path]
    streams = [path for path in lists if "fieldSelector=status.phase=" not in path]  # those of the finished ones are for their TTL
    assert len(streams) == 3  # the list before the first decision, kopf's list, kopf's watch
    assert all("fieldSelector=status.phase!=Succeeded,status.phase!=Failed" in path for path in streams)
    assert status(server, "old") == {"phase": "Failed"}
    assert len(server.objects("pods")) == 1


async def test_a_longer_task_shows_starting_and_running_once_each(server: FakeApiServer) -> None:
    server.kubelet.auto_run(None)
    async with program(server):
        server.put("agenttasks", task("a"))
        await server.until(lambda: server.objects("pods"))
        (pod,) = server.objects("pods")
        server.kubelet.unschedulable(pod["metadata"]["name"], "0/1 nodes are available: 1 Insufficient cpu.")
        waits = await phase(server, "a", "Starting")
        server.kubelet.start(pod["metadata"]["name"])
        runs = await phase(server, "a", "Running")
        server.kubelet.end(pod["metadata"]["name"], said("at last"))
        found = await ended(server, "a")

    assert (waits["reason"], "Insufficient cpu" in waits["message"]) == ("Unschedulable", True)
    assert (runs["reason"], runs["progress"]) == ("PodRunning", "0/1")
    assert (found["output"], found.get("message")) == ("at last", None)
    # On a slow machine its pod may be seen to start, which is another reason, before it is seen to run.
    assert [method for method, _ in server.writes] in (["POST", *["PATCH"] * 3], ["POST", *["PATCH"] * 4])


async def test_a_missing_model_is_told_once_and_its_appearance_wakes_the_task(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with program(server):
        server.put("agentmodels", model("other"))
        server.put("agenttasks", asking("a", "smal"))
        waits = await phase(server, "a", "Queued")
        assert [method for method, _ in server.writes] == ["PATCH"]
        nothing_settles(monkeypatch)
        server.put("agentmodels", model("smal"))
        await ended(server, "a")

    assert (waits["reason"], waits["message"]) == ("UnknownModel", "no AgentModel 'smal'; namespace default has: other")
    assert [method for method, _ in server.writes] == ["PATCH", "POST", "PATCH"]


@pytest.mark.usefixtures("only_ends")
async def test_a_model_applied_in_the_same_go_costs_no_word_of_waiting(server: FakeApiServer) -> None:
    async with program(server):
        server.put("agenttasks", asking("a", "small"))
        await asyncio.sleep(0.2)
        server.put("agentmodels", model("small"))
        found = await ended(server, "a")

    assert found["models"] == "small"
    assert [method for method, _ in server.writes] == ["POST", "PATCH"]


async def test_a_model_that_went_is_missed_by_the_next_task(server: FakeApiServer) -> None:
    server.put("agentmodels", model("small"))
    async with program(server) as controller:
        server.remove("agentmodels", "small")
        await server.until(lambda: not controller._world.models.names())
        server.put("agenttasks", asking("a", "small"))
        waits = await phase(server, "a", "Queued")

    assert waits["reason"] == "UnknownModel"


@pytest.mark.parametrize(
    ("plural", "source"),
    [
        ("configmaps", {"configMap": {"name": "repo"}}),
        ("persistentvolumeclaims", {"persistentVolumeClaim": {"claimName": "repo"}}),
    ],
)
async def test_a_missing_input_appears(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, plural: str, source: dict[str, object]
) -> None:
    async with program(server):
        server.put("agenttasks", task("a", inputs=[{"name": "repo", **source}]))
        waits = await phase(server, "a", "Queued")
        nothing_settles(monkeypatch)
        server.put(plural, {"metadata": {"name": "repo"}})
        await ended(server, "a")

    assert waits["reason"] == "MissingInput"
    assert [method for method, _ in server.writes] == ["PATCH", "POST", "PATCH"]


async def test_what_a_fallback_needs_appears_piece_by_piece(server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("agentmodels", model("small", fallback=["big"]))
    async with program(server):
        server.put("agenttasks", asking("a", "small"))
        no_model = await phase(server, "a", "Queued")
        server.put("agentmodels", model("big", caBundle={"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}))
        await server.until(lambda: server.get("agenttasks", "a")["status"]["reason"] == "MissingInput")
        nothing_settles(monkeypatch)
        server.put("configmaps", {"metadata": {"name": "ca"}})
        found = await ended(server, "a")

    assert (no_model["reason"], found["phase"]) == ("UnknownModel", "Succeeded")
    assert "a fallback of 'small'" in no_model["message"]
    assert found["models"] == "small"
    assert [method for method, _ in server.writes] == ["PATCH", "PATCH", "POST", "PATCH"]


async def test_a_task_nobody_could_run_fails_in_one_write_without_a_pod(server: FakeApiServer) -> None:
    steps = [{"name": "a", "needs": ["b"], "exec": {"command": ["x"]}}, {"name": "b", "needs": ["a"], "exec": {"command": ["x"]}}]
    async with program(server):
        server.put("agenttasks", task("cycle", steps=steps))
        server.put("agenttasks", task("newer", stepps=[]))
        cycle, newer = await ended(server, "cycle"), await ended(server, "newer")

    assert [(found["phase"], found["reason"]) for found in (cycle, newer)] == [("Failed", "InvalidTask")] * 2
    assert "stepps" in newer["message"]
    assert [method for method, _ in server.writes] == ["PATCH", "PATCH"]


@pytest.mark.usefixtures("only_ends")
async def test_a_task_deleted_while_it_waits_is_forgotten(server: FakeApiServer) -> None:
    async with program(server) as controller:
        server.put("agenttasks", asking("a", "small"))
        await server.until(lambda: len(controller._world.tasks))
        server.remove("agenttasks", "a")
        await server.until(lambda: not len(controller._world.tasks))
        server.put("agentmodels", model("small"))
        await asyncio.sleep(0.2)

    assert server.writes == []


@pytest.mark.usefixtures("only_ends")
async def test_a_pod_deleted_by_hand_is_told(server: FakeApiServer) -> None:
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server):
        server.put("agenttasks", task("a", retry=ONCE))
        await server.until(lambda: server.objects("pods") and server.objects("pods")[0]["status"]["phase"] == "Running")
        server.remove("pods", server.objects("pods")[0]["metadata"]["name"])
        found = await ended(server, "a")

    assert (found["phase"], found["reason"]) == ("Failed", "Lost")
    assert [method for method, _ in server.writes] == ["POST", "PATCH"]


@pytest.mark.usefixtures("only_ends")
async def test_a_deadline_deletes_the_pod_and_then_ends_the_task(server: FakeApiServer) -> None:
    server.kubelet.auto_run(None)
    async with program(server):
        server.put("agenttasks", task("a", pendingDeadlineSeconds=1))
        found = await ended(server, "a")

    assert (found["phase"], found["reason"]) == ("Failed", "PendingDeadlineExceeded")
    assert [method for method, _ in server.writes] == ["POST", "DELETE", "PATCH"]
    assert server.objects("pods") == []


async def test_a_task_that_runs_too_long_is_stopped_and_its_last_words_kept(server: FakeApiServer) -> None:
    server.graceful = True
    server.kubelet.auto_run(lambda _: PodRun(run_seconds=60))
    async with program(server):
        server.put("agenttasks", task("a", activeDeadlineSeconds=1))
        await server.until(lambda: "DELETE" in [method for method, _ in server.writes])
        name = server.objects("pods")[0]["metadata"]["name"]
        server.kubelet.end(name, exit_code=137)
        server.kubelet.finish_deletion(name)
        found = await ended(server, "a")

    assert (found["phase"], found["reason"]) == ("Failed", "DeadlineExceeded")


async def test_only_the_namespaces_of_the_settings_are_served(server: FakeApiServer) -> None:
    async with program(server, "namespaces=[team-a, team-b]"):
        for namespace in ("team-a", "team-b", "default"):
            server.put("agenttasks", task("a"), namespace=namespace)
        await server.until(lambda: len(server.objects("pods")) == 2)
        await asyncio.sleep(0.3)

    assert sorted(pod["metadata"]["namespace"] for pod in server.objects("pods")) == ["team-a", "team-b"]
    assert not [path for _, path in server.requests if path.startswith("/api/v1/pods")]
