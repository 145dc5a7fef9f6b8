"""Admission that knows the provider, on a real cluster: a model's limits and a breaker that is open in a running pod hold tasks back."""

from typing import Any

import pytest

from tests.e2e.cluster import Namespace, step_phases
from tests.e2e.conftest import model
from tests.e2e.held import held, let_go
from tests.e2e.test_tasks import task

pytestmark = pytest.mark.cluster
OPEN_SECONDS = 90
"""From the call that fails on: until it is seen, and the next task is told, some 15 s go by, on a busy machine more."""


def ask(name: str, asked: str, *before: dict[str, Any], after: tuple[dict[str, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    """A task that asks one model once, between other steps."""
    chat = {"name": "ask", "chat": {"model": asked, "prompt": "hello"}, **fields}
    return task(name, {"steps": [*before, chat, *after], "pod": {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}}})


def test_no_more_tasks_run_against_a_model_than_its_limits_serve(release: Namespace) -> None:
    release.apply(model("narrow", {"client": "scripted", "model": "echo", "limits": {"concurrentCalls": 1}}))
    release.apply(ask("narrow-first", "narrow", held("hold")))
    first = release.until("narrow-first", lambda status: status.get("phase") == "Running", seconds=120)
    release.apply(ask("narrow-next", "narrow"), ask("unbound", "plain"))

    waits = release.until("narrow-next", lambda status: status.get("reason") == "ModelFull", seconds=120)
    release.ended("unbound")
    let_go(release, first["podName"])
    found = release.all_ended(["narrow-first", "narrow-next", "unbound"], seconds=180)

    assert (waits["phase"], waits["message"]) == (
        "Queued",
        "AgentModel 'narrow': 1 tasks use it, of at most 1: limits.concurrentCalls is 1",
    )
    assert {name: (one["phase"], one["attempt"]) for name, one in found.items()} == dict.fromkeys(found, ("Succeeded", 1))
    assert found["narrow-first"]["completionTime"] <= found["narrow-next"]["startTime"]
    assert found["unbound"]["startTime"] < found["narrow-first"]["completionTime"]


def test_a_breaker_that_is_open_in_a_running_pod_holds_the_next_task_until_it_closes(release: Namespace) -> None:
    breaker = {"failurePercent": 1, "minimumCalls": 1, "openSeconds": OPEN_SECONDS}
    broken = {"client": "openai", "endpoint": "http://llm:8080/500/v1", "model": "broken", "retry": {"limit": 0}}
    release.apply(model("broken-lately", {**broken, "circuitBreaker": breaker}))
    release.apply(ask("trips", "broken-lately", after=(held("hold"),), continueOnError=True))
    tripped = release.until("trips", lambda status: step_phases(status) == ["Failed", "Running"], seconds=120)
    release.apply(ask("held-back", "broken-lately"))

    waits = release.until("held-back", lambda status: status.get("reason") == "ModelBreakerOpen", seconds=OPEN_SECONDS)
    pods = release.pods("agenttask.dev/task-name=held-back")
    let_go(release, tripped["podName"])
    trips, after = release.ended("trips"), release.ended("held-back", seconds=OPEN_SECONDS + 180)

    assert waits["message"].startswith("AgentModel 'broken-lately': runners say that its circuit breaker is open, for ")
    assert pods == []
    assert trips["phase"] == "Succeeded", trips
    assert (after["phase"], after["reason"]) == ("Failed", "ModelUnavailable"), after
