"""Several tasks in one process: how many run at once, what they share, and who goes first."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.runner_plugins import Answering, plugins

from agenttask.api.errors import ModelUnavailable
from agenttask.cli import main
from agenttask.plugin.llm import ChatRequest, Completion, Message
from agenttask.plugin.step import StepOutput
from agenttask.runner.slots import Claim, Slots
from agenttask.runner.turns import SWITCH_SECONDS

Write = Callable[..., Path]


def of_kind(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def tasks(count: int, **step: Any) -> list[dict[str, Any]]:
    """`t0`, `t1`, ...: one step each, of a priority as high as its number."""
    return [
        of_kind("AgentTask", f"t{number}", steps=[{"name": "a", "priority": number, "plugin": {"kind": "crowd", "with": {}}, **step}])
        for number in range(count)
    ]


class Crowd:
    """A step kind that notes who began and how many ran at once; with `together` it waits for so many, and ends when `ready` says so."""

    schema = dict[str, Any]

    def __init__(self, together: int = 1) -> None:
        self.began: list[str] = []
        self.running = self.most = 0
        self.together, self.met = together, asyncio.Event()
        self.ready: Callable[[], bool] = lambda: True

    async def run(self, config: dict[str, Any], context: Any) -> StepOutput:
        self.began.append(context.task.name)
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running >= self.together:
            self.met.set()
        await self.met.wait()
        while not self.ready():  # noqa: ASYNC110 - it looks at what has no event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        self.running -= 1
        return StepOutput(text=context.task.name)


class Down(Answering):
    """A model that is down, and counts who asks."""

    asked: list[str]

    async def chat(self, request: ChatRequest) -> Completion:
        self.asked.append(request.messages[-1].content)
        raise ModelUnavailable("it is down")


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Crowd]:
    def make(together: int = 1) -> Crowd:
        made = Crowd(together)
        monkeypatch.setattr(main, "load", lambda: plugins(kinds={"crowd": made}))
        return made

    return make


def test_ten_tasks_run_at_once(agenttask: Any, file: Write, crowd: Callable[..., Crowd]) -> None:
    ten = crowd(together=10)
    said = agenttask("run", file(*tasks(12, timeoutSeconds=60)))
    assert (said.code, ten.most) == (0, 10)
    assert said.out.splitlines() == [line for number in range(12) for line in (f"==> t{number} <==", f"t{number}")]


def test_the_loops_turn_comes_soon_in_a_local_run(agenttask: Any, file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interval(Crowd):
        async def run(self, config: dict[str, Any], context: Any) -> StepOutput:
            return StepOutput(text=f"{sys.getswitchinterval():.4f}")

    monkeypatch.setattr(main, "load", lambda: plugins(kinds={"crowd": Interval()}))
    assert agenttask("run", file(*tasks(1))).out == f"{SWITCH_SECONDS:.4f}\n"
    assert sys.getswitchinterval() != pytest.approx(SWITCH_SECONDS)


def test_no_more_tasks_run_at_once_than_wished_and_they_begin_in_their_order(
    agenttask: Any, file: Write, crowd: Callable[..., Crowd]
) -> None:
    few = crowd(together=2)
    assert agenttask("run", file(*tasks(5, timeoutSeconds=60)), "--max-tasks", 2).code == 0
    assert few.most == 2
    one = crowd()
    assert agenttask("run", file(*tasks(3)), "--max-tasks", 1).code == 0
    assert one.began == ["t0", "t1", "t2"]


def test_tasks_share_the_steps_that_run_at_once_and_the_highest_priority_goes_first(
    agenttask: Any, file: Write, crowd: Callable[..., Crowd], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    take = Slots._take

    async def noted(slots: Slots, claim: Claim) -> None:
        if claim.task:  # it is one of those that all tasks share
            asked.add(claim.task)
        await take(slots, claim)

    monkeypatch.setattr(Slots, "_take", noted)
    one = crowd()
    one.ready = lambda: len(asked) == 6
    assert agenttask("run", file(*tasks(6, timeoutSeconds=60)), "--max-steps", 1).code == 0
    assert (one.most, len(one.began)) == (1, 6)
    assert one.began[1:] == sorted(one.began[1:], reverse=True)  # who comes first finds nobody to yield to


def test_a_breaker_that_one_task_has_opened_spares_the_next_one_the_call(
    agenttask: Any, file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ask:
        schema = dict[str, Any]

        async def run(self, config: dict[str, Any], context: Any) -> StepOutput:
            request = ChatRequest(messages=(Message(role="user", content=context.task.name),))
            return StepOutput(text=(await context.model(config["model"]).chat(request)).text)

    monkeypatch.setattr(Down, "asked", [], raising=False)
    monkeypatch.setattr(main, "load", lambda: plugins(kinds={"chat": Ask()}, clients={"down": Down}))
    breaker = {"minimumCalls": 1, "failurePercent": 100, "openSeconds": 600}
    model = of_kind("AgentModel", "m", client="down", model="x", retry={"limit": 0}, circuitBreaker=breaker)
    asking = [of_kind("AgentTask", name, steps=[{"name": "a", "chat": {"model": "m", "prompt": "x"}}]) for name in ("one", "two")]
    said = agenttask("run", file(*asking, model), "--max-tasks", 1)
    assert (said.code, Down.asked) == (3, ["one"])
    assert "two: ModelUnavailable: step 'a': model 'm' is not asked: its circuit breaker has been open" in said.err


def test_what_the_command_line_allows_is_each_tasks_policy(agenttask: Any, file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    class Policy:
        schema = dict[str, Any]

        async def run(self, config: dict[str, Any], context: Any) -> StepOutput:
            return StepOutput(text=f"{context.policy.hosts} {context.policy.hub}")

    monkeypatch.setattr(main, "load", lambda: plugins(kinds={"crowd": Policy()}))
    path = file(*tasks(1))
    assert agenttask("run", path).out == "() False\n"
    said = agenttask("run", path, "--allow-host", "a.example", "--allow-host", "b.example:8443", "--allow-hub")
    assert said.out == "('a.example', 'b.example:8443') True\n"


def test_a_plugin_that_breaks_one_task_leaves_the_others_alone(file: Write, agenttask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    no_kind: Any = object()
    monkeypatch.setattr(main, "load", lambda: plugins(kinds={"crowd": Crowd(), "broken": no_kind}))
    bad = of_kind("AgentTask", "bad", steps=[{"name": "a", "plugin": {"kind": "broken", "with": {}}}])
    said = agenttask("run", file(bad, *tasks(2)))
    assert (said.code, said.out) == (1, "==> t0 <==\nt0\n==> t1 <==\nt1\n")
    assert "bad: StepFailed: the run broke with AttributeError: 'object' object has no attribute 'schema'" in said.err
