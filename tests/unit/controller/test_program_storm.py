"""The whole controller under many tasks at once: none is stuck, and a long line with free capacity is not let in drop by drop."""

import time
from collections import Counter

from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import node, program, status, success, task

STORM = 1000
LINE = 500
SECONDS = 180
"""On a machine that does many other things; alone it is a tenth of that."""


async def test_of_a_thousand_tasks_of_which_half_are_deleted_at_once_none_is_stuck() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        async with program(server) as controller:
            for number in range(STORM):
                server.put("agenttasks", task(f"t{number}"))
                if number % 2:
                    server.remove("agenttasks", f"t{number - 1}")
            kept = [f"t{number}" for number in range(1, STORM, 2)]
            await server.until(lambda: all(status(server, name).get("phase") == "Succeeded" for name in kept), SECONDS)
            await server.until(lambda: not len(controller._world.tasks) and not len(controller._queue), SECONDS)
            assert controller.alive() is None

        owners = Counter(pod["metadata"]["ownerReferences"][0]["name"] for pod in server.objects("pods"))
    # A pod whose task went while it was created is the garbage collector's, which the fake has not.
    assert set(kept) <= owners.keys()
    assert set(owners.values()) == {1}


async def test_a_line_of_five_hundred_with_free_capacity_is_let_in_in_seconds() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        server.put("agentqueues", {"metadata": {"name": "still"}, "spec": {"paused": True}})
        async with program(server) as controller:
            came = time.monotonic()
            for number in range(LINE):
                server.put("agenttasks", task(f"t{number}", queue="still"))
            await server.until(lambda: len(controller._world.tasks) == LINE, SECONDS)
            lined_up = time.monotonic() - came  # without the queue's status, which comes in its own time
            await server.until(lambda: (server.get("agentqueues", "still") or {}).get("status", {}).get("pending") == LINE, SECONDS)
            assert server.objects("pods") == []
            began = time.monotonic()
            server.patch("agentqueues", "still", {"spec": {"paused": False}})
            await server.until(lambda: len(server.objects("pods")) == LINE, SECONDS)
            took = time.monotonic() - began

    assert took < min(15 + 5 * lined_up, 60)  # eight a second, as those behind the first are told of their places, would be longer
