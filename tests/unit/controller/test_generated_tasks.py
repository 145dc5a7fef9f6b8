"""The whole controller on objects that the schema allows and nobody would write: every task ends, or says why not."""

import asyncio
import logging
import resource
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import asking, ended, node, phase, program, success, task
from tests.fakes.cut_off_watch import without_cut_off_watches
from tests.unit.crds.schema_objects import body, edges, specs

from agenttask.api.reasons import TERMINAL_REASONS, WAITING_REASONS

TASKS = 50
FINAL = ("Succeeded", "Failed", "Cancelled")
CLASSES = 'deviceClasses=[{name: gpu, kind: cuda, resources: {"nvidia.com/gpu": 1}}, {name: cpu}]'
MOST_MEGABYTES = 64
QUIET_SECONDS = 1.0
NAMES = ("a" * 253, "a." * 126 + "a", "0", "-".join("a" * 127), "a" * 63, "a" * 64 + "." + "b" * 64)


def drawn(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Random specs of tasks, models and queues: eight, two and one of eleven. They depend on what is loaded: Hypothesis reads it."""
    found: dict[str, list[dict[str, Any]]] = {}
    turns = ["agenttasks"] * 3 + ["agentmodels"] + ["agenttasks"] * 3 + ["agentqueues"] + ["agenttasks"] * 2 + ["agentmodels"]
    kinds = [turns[number % len(turns)] for number in range(count)]
    for kind in dict.fromkeys(kinds):
        found[kind] = _of(kind, kinds.count(kind))
    return [(kind, found[kind].pop()) for kind in kinds]


def _of(kind: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    # Hypothesis may stop earlier where it thinks that it has seen all, and repeats itself now and then.
    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(one=specs(kind))
    def draw(one: dict[str, Any]) -> None:
        found.append(one)

    while len(found) < count:
        draw()
    return found[:count]


def ours(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec that is not left alone, and does not wait for longer than a test does."""
    return {name: value for name, value in spec.items() if name not in ("managedBy", "ttlSecondsAfterFinished")}


async def settled(server: FakeApiServer, seconds: float) -> None:
    """Wait until nothing is written any more."""
    async with asyncio.timeout(seconds):
        while True:
            before = len(server.writes)
            await asyncio.sleep(QUIET_SECONDS)
            tasks = server.objects("agenttasks")
            if len(server.writes) == before and all(one.get("status", {}).get("phase") not in (None, "Running") for one in tasks):
                return


def stands(one: dict[str, Any]) -> str | None:
    """What is wrong with where a task stands, or None."""
    found = one.get("status", {})
    phase, reason = found.get("phase"), found.get("reason")
    if phase in FINAL:
        return None if reason in TERMINAL_REASONS else f"{phase} for {reason}"
    return None if phase in ("Queued", "Suspended", "Starting") and reason in WAITING_REASONS else f"{phase} for {reason}"


def stumbles(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Errors in the log, with their traces."""
    told = [logging.Formatter().format(line) for line in caplog.records if line.exc_info or line.levelno >= logging.ERROR]
    return [line for line in told if without_cut_off_watches(line)]


async def test_generated_tasks_end_or_wait_for_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    objects = await asyncio.to_thread(drawn, TASKS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with FakeApiServer() as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        with caplog.at_level(logging.INFO):
            async with program(server, CLASSES) as controller:
                for number, (plural, spec) in enumerate(objects):
                    server.put(plural, body(plural, ours(spec), f"g{number}"))
                await settled(server, 180)
                passes = len(server.writes)
                assert (controller.alive(), controller.failed.is_set()) == (None, False)

        tasks = server.objects("agenttasks")
    wrong = {one["metadata"]["name"]: why for one in tasks if (why := stands(one)) is not None}
    assert wrong == {}
    assert len(tasks) > TASKS // 2
    assert passes <= 8 * len(objects)
    assert stumbles(caplog) == []
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MEGABYTES
    assert {one["status"]["phase"] for one in tasks} >= {"Succeeded", "Failed"}


async def test_what_only_an_older_schema_let_in_fails_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    """Each field out of its bounds: InvalidTask, no pod, and no task beside it is held up."""
    wrong = [edge for edge in edges("agenttasks") if not edge.valid]
    async with FakeApiServer() as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        with caplog.at_level(logging.INFO):
            async with program(server):
                for number, edge in enumerate(wrong):
                    server.put("agenttasks", edge.body | {"metadata": {"name": f"e{number}"}})
                server.put("agenttasks", task("fine"))
                await ended(server, "fine", seconds=180)
                await server.until(lambda: all("status" in one for one in server.objects("agenttasks")), 180)

        told = {str(edge): server.get("agenttasks", f"e{number}") for number, edge in enumerate(wrong)}
        pods = server.objects("pods")
    assert [what for what, one in told.items() if one is None or one["status"].get("reason") != "InvalidTask"] == []
    assert all(one is not None and one["status"].get("message") for one in told.values())
    assert len(pods) == 1
    assert stumbles(caplog) == []


async def test_the_longest_and_oddest_names_have_pods_of_their_own() -> None:
    async with FakeApiServer() as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        async with program(server):
            for name in NAMES:
                server.put("agenttasks", task(name))
            outputs = {name: (await ended(server, name))["output"] for name in NAMES}

    assert len(set(outputs.values())) == len(NAMES)
    assert all(len(pod) <= 63 for pod in outputs.values())


async def test_a_model_and_a_queue_that_were_odd_for_a_while_are_themselves_again_once_they_are_put_back() -> None:
    """Every generated spec in turn stands in their place; the tasks that wait for them run when the first ones are back."""
    odd = await asyncio.to_thread(drawn, TASKS)
    spec = {"client": "scripted", "model": "none"}
    async with FakeApiServer() as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        server.put("agentmodels", body("agentmodels", spec, "small"))
        server.put("agentqueues", body("agentqueues", {}, "line"))
        async with program(server, CLASSES) as controller:
            for plural, one in odd:
                if plural != "agenttasks":
                    name = "small" if plural == "agentmodels" else "line"
                    server.remove(plural, name)
                    server.put(plural, body(plural, one, name))
            server.remove("agentmodels", "small")
            server.put("agentmodels", body("agentmodels", spec, "last"))  # between two of them there is none for a moment, too
            await server.until(lambda: controller._world.models.names() == [("default", "last")])
            server.put("agenttasks", asking("waits", "small", queue="line"))
            waits = await phase(server, "waits", "Queued")
            server.remove("agentqueues", "line")
            server.put("agentqueues", body("agentqueues", {}, "line"))
            server.put("agentmodels", body("agentmodels", spec, "small"))
            found = await ended(server, "waits")
            assert controller.alive() is None

    assert waits["reason"] in ("UnknownModel", "QueuePaused", "QueueFull")
    assert (found["phase"], found["models"]) == ("Succeeded", "small")
