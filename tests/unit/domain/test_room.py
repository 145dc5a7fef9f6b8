"""What stands in the way of a turn besides devices, and in which words."""

from typing import Any

import msgspec
import pytest

from agenttask.api.model import AgentModelSpec, Limits
from agenttask.api.queue import AgentQueueSpec
from agenttask.api.reasons import Reason
from agenttask.domain.holdings import Holding, Holdings
from agenttask.domain.model_capacity import NothingTold, capacity
from agenttask.domain.observation import Waits
from agenttask.domain.queueing import Wish
from agenttask.domain.room import SeenQueue, aging_seconds, obstacle, taken_classes

NOW = 1_800_000_000.0


class Told:
    """Open breakers and loads by model."""

    def __init__(
        self, opened: dict[str, float] | None = None, loads: dict[str, float] | None = None, rates: dict[str, float] | None = None
    ) -> None:
        self.opened, self.loads, self.rates = opened or {}, loads or {}, rates or {}

    def open_until(self, namespace: str, model: str) -> float | None:
        return self.opened.get(model)

    def load(self, namespace: str, model: str) -> float | None:
        return self.loads.get(model)

    def requests(self, namespace: str, model: str) -> float | None:
        return self.rates.get(model)


def running(*wishes: Wish, class_: str = "cpu") -> Holdings:
    held = Holdings()
    for number, one in enumerate(wishes):
        held.add(str(number), Holding(wish=one, class_=class_))
    return held


def look(
    one: Wish,
    held: Holdings | None = None,
    *,
    queues: dict[str, Any] | None = None,
    max_running: int = 0,
    models: dict[str, Any] | None = None,
    told: Told | NothingTold | None = None,
) -> Waits | None:
    seen = {name: SeenQueue(spec=msgspec.convert(spec, AgentQueueSpec)) for name, spec in (queues or {}).items()}
    specs = {name: msgspec.convert({"client": "scripted", "model": "m", **spec}, AgentModelSpec) for name, spec in (models or {}).items()}
    return obstacle(
        one,
        held or Holdings(),
        queues=seen,
        max_running=max_running,
        models=specs.get,
        health=told or NothingTold(),
        now=NOW,
    )


ONE = Wish(namespace="n", queue="q")
ASKING = Wish(namespace="n", queue="default", models=("small",))


def test_the_default_queue_need_not_be_there_and_every_other_must() -> None:
    assert look(Wish(namespace="n", queue="default")) is None
    unknown = look(Wish(namespace="n", queue="nightli"), queues={"nightly": {}})
    assert unknown is not None
    assert unknown.reason is Reason.UNKNOWN_QUEUE
    assert unknown.message == "no AgentQueue 'nightli'; namespace n has: nightly; did you mean 'nightly'?"


def test_a_queue_that_cannot_be_read_lets_nobody_start() -> None:
    seen = {"q": SeenQueue(spec=None, problem="Object contains unknown field `speed`")}
    found = obstacle(ONE, Holdings(), queues=seen, max_running=0, models=lambda _: None, health=NothingTold(), now=NOW)
    assert found == Waits(reason=Reason.UNKNOWN_QUEUE, message="AgentQueue 'q' cannot be read: Object contains unknown field `speed`")
    assert aging_seconds("q", seen) == 300


@pytest.mark.parametrize(
    ("queue", "held", "cap", "reason", "words"),
    [
        ({"paused": True}, running(), 0, Reason.QUEUE_PAUSED, "AgentQueue 'q' is paused; set spec.paused to false"),
        ({"concurrency": 2}, running(ONE, ONE), 0, Reason.QUEUE_FULL, "AgentQueue 'q' runs 2 tasks, its concurrency is 2"),
        ({}, running(ONE), 1, Reason.QUEUE_FULL, "the installation runs 1 tasks, its maxRunningTasks is 1"),
    ],
)
def test_what_is_in_the_way_is_said_with_its_numbers(queue: Any, held: Holdings, cap: int, reason: Reason, words: str) -> None:
    assert look(ONE, held, queues={"q": queue}, max_running=cap) == Waits(reason=reason, message=words)
    assert look(ONE, queues={"q": {"concurrency": 2}}, max_running=2) is None


def test_other_queues_and_namespaces_do_not_count() -> None:
    held = running(Wish(namespace="n", queue="other"), Wish(namespace="o", queue="q"))
    assert look(ONE, held, queues={"q": {"concurrency": 1}}) is None


def test_classes_that_the_queue_has_enough_of_are_told_with_the_reason() -> None:
    queues = {"q": SeenQueue(spec=AgentQueueSpec(devices={"gpu": 1, "tpu": 0, "cpu": 5}))}
    assert taken_classes(ONE, running(ONE, class_="gpu"), queues) == {
        "gpu": "AgentQueue 'q' has 1 tasks on it, its devices.gpu is 1",
        "tpu": "AgentQueue 'q' has 0 tasks on it, its devices.tpu is 0",
    }
    assert taken_classes(Wish(namespace="n", queue="default"), Holdings(), {}) == {}


def test_a_model_serves_as_many_tasks_as_its_limits_say() -> None:
    held = running(ASKING, ASKING)
    full = look(ASKING, held, models={"small": {"limits": {"concurrentCalls": 2}}})
    assert full is not None
    assert full.reason is Reason.MODEL_FULL
    assert full.message == "AgentModel 'small': 2 tasks use it, of at most 2: limits.concurrentCalls is 2"
    assert look(ASKING, held, models={"small": {"limits": {"concurrentCalls": 3}}}) is None
    assert look(ASKING, held, models={"small": {}}) is None


def test_tasks_that_have_several_calls_in_flight_are_fewer() -> None:
    """Little's law: four calls at once are two tasks of two."""
    models = {"small": {"limits": {"concurrentCalls": 4}}}
    held = running(ASKING, ASKING)
    full = look(ASKING, held, models=models, told=Told(loads={"small": 2.0}))
    assert full is not None
    assert full.message.endswith("of at most 2: limits.concurrentCalls is 4, and a task has 2.0 calls in flight")
    assert look(ASKING, held, models=models, told=Told(loads={"small": 0.2})) is None
    slow = look(ASKING, held, models={"small": {"limits": {"requestsPerMinute": 60}}}, told=Told(rates={"small": 25.0}))
    assert slow is not None
    assert slow.message.endswith("of at most 2: limits.requestsPerMinute is 60, and a task has 25.0 calls a minute")


@pytest.mark.parametrize(
    ("limits", "in_flight", "requests", "tasks"),
    [
        (Limits(), 5.0, 5.0, None),
        (Limits(tokens_per_minute=10), None, None, None),
        (Limits(concurrent_calls=8), None, None, 8),
        (Limits(concurrent_calls=8), 0.1, None, 8),
        (Limits(concurrent_calls=8), 3.0, None, 2),
        (Limits(concurrent_calls=8), 100.0, None, 1),
        (Limits(requests_per_minute=6), 100.0, None, 6),
        (Limits(requests_per_minute=60), None, 7.5, 8),
        (Limits(requests_per_minute=60), None, 0.5, 60),
        (Limits(concurrent_calls=8, requests_per_minute=60), 2.0, 20.0, 3),
    ],
)
def test_the_capacity_of_limits(limits: Limits, in_flight: float | None, requests: float | None, tasks: int | None) -> None:
    found = capacity(limits, in_flight=in_flight, requests=requests)
    assert (found.tasks if found is not None else None) == tasks


def test_an_open_breaker_pauses_its_model_until_it_closes() -> None:
    opened = look(ASKING, models={"small": {}}, told=Told({"small": NOW + 12}))
    assert opened is not None
    assert opened.reason is Reason.MODEL_BREAKER_OPEN
    assert opened.message == "AgentModel 'small': runners say that its circuit breaker is open, for 12 s more"
    assert look(ASKING, models={"small": {}}, told=Told({"small": NOW})) is None
    assert look(ONE, queues={"q": {}}, told=Told({"small": NOW + 12})) is None


def test_a_model_with_a_fallback_that_works_is_not_paused() -> None:
    models = {"small": {"fallback": ["big"]}, "big": {}}
    both = look(ASKING, models=models, told=Told({"small": NOW + 30, "big": NOW + 5}))
    assert both is not None
    assert "those of its fallbacks are open, for 5 s more" in both.message
    assert look(ASKING, models=models, told=Told({"small": NOW + 30})) is None


def test_a_turn_counts_once_and_leaves_nothing() -> None:
    held = running(ASKING)
    held.add("0", Holding(wish=ASKING, class_="gpu"))
    assert (len(held), held.of_class("n", "default", "cpu"), held.of_class("n", "default", "gpu")) == (1, 0, 1)
    assert held.remove("0") is not None
    assert held.remove("0") is None
    assert (held.of_namespace("n"), held.of_model("n", "small"), len(held._counts)) == (0, 0, 0)
