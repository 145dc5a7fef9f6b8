"""The clients around a client as `Models` puts them together: their order, and what tasks of one process share."""

import asyncio
import logging
from typing import Any

import pytest
from tests.fakes.models import ask
from tests.fakes.scripted_client import PlayedClient
from tests.fakes.virtual_time import in_virtual_time, loop_time

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelUnavailable, RateLimited
from agenttask.api.model import CallRetry, CircuitBreaker, Limits, Prices, Timeouts
from agenttask.plugin.llm import CountsTokens, Usage
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.models import Models
from agenttask.runner.observer import NullObserver

DOWN = ModelUnavailable("refused")


def document(name: str, **fields: Any) -> ModelDocument:
    return ModelDocument(**{"name": name, "client": "played", "model": f"{name}-1", "endpoint": "http://models.test/v1", **fields})


class Ends(NullObserver):
    """How the calls of a run ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, str | None]] = []

    def model_call_ended(self, call: int, *, answered_by: str, usage: Usage, error: BaseException | None, **_: Any) -> None:
        self.seen.append((usage.input_tokens, answered_by, None if error is None else str(error)))


class Process:
    """What the tasks of a process share."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.endpoints = Endpoints(log=self.log, clock=loop_time)

    def log(self, about: str, what: str) -> None:
        self.said.append((about, what))

    def task(self, clients: dict[str, PlayedClient], *documents: ModelDocument) -> tuple[Models, Ends]:
        ends = Ends()
        models = Models(
            documents,
            factory=lambda _client: lambda model, _context: clients[model.name],
            context=lambda _document: None,  # type: ignore[arg-type, return-value]  # these clients need none
            observer=ends,
            endpoints=self.endpoints,
            log=self.log,
            clock=loop_time,
            random=lambda: 0.0,
        )
        return models, ends


@in_virtual_time
async def test_a_call_is_retried_then_counted_by_the_breaker_then_answered_by_the_fallback() -> None:
    process = Process()
    clients = {"big": PlayedClient(DOWN), "small": PlayedClient("from small")}
    big = document(
        "big", fallback=("small",), retry=CallRetry(limit=1), circuit_breaker=CircuitBreaker(minimum_calls=2, failure_percent=100)
    )
    models, ends = process.task(clients, big, document("small"))
    for _ in range(3):
        answer = await models.for_step("ask")("big").chat(ask("x"))
        assert (answer.text, answer.agent_model) == ("from small", "small")
    assert len(clients["big"].calls) == 4  # two calls of two tries; the third met the open breaker
    assert len(ends.seen) == models.usage.calls == 3
    assert [what.split(":")[0] for about, what in process.said if about == "model big"] == [
        "try 1 of 2 failed, the next is in 0.5 s",
        "asks 'small' in place of 'big'",
        "try 1 of 2 failed, the next is in 0.5 s",
        "circuit breaker open for 30 s",
        "asks 'small' in place of 'big'",
        "asks 'small' in place of 'big'",
    ]


@in_virtual_time
async def test_a_breaker_is_the_endpoints_whichever_task_asks() -> None:
    process = Process()
    down, other = PlayedClient(DOWN), PlayedClient("fine")
    given = {"retry": CallRetry(limit=0), "circuit_breaker": CircuitBreaker(minimum_calls=1)}
    first, _ = process.task({"m": down}, document("m", **given))
    second, _ = process.task({"m": down}, document("m", **given))
    third, _ = process.task({"m": other}, document("m", **given, endpoint="http://elsewhere.test/v1"))
    with pytest.raises(ModelUnavailable, match="refused"):
        await first.for_step("a")("m").chat(ask("x"))
    with pytest.raises(ModelUnavailable, match="circuit breaker has been open for 0 s"):
        await second.for_step("a")("m").chat(ask("x"))
    assert (await third.for_step("a")("m").chat(ask("x"))).text == "fine"


@in_virtual_time
async def test_models_without_an_endpoint_have_a_breaker_by_their_name() -> None:
    process = Process()
    given = {"endpoint": None, "model": "m", "retry": CallRetry(limit=0), "circuit_breaker": CircuitBreaker(minimum_calls=1)}
    models, _ = process.task({"a": PlayedClient(DOWN), "b": PlayedClient("fine")}, document("a", **given), document("b", **given))
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            await models.for_step("s")("a").chat(ask("x"))
    assert (await models.for_step("s")("b").chat(ask("x"))).text == "fine"


@in_virtual_time
async def test_limits_hold_for_all_tasks_of_a_process() -> None:
    process = Process()
    client = PlayedClient((1.0, "hello"))
    tasks = [process.task({"m": client}, document("m", limits=Limits(concurrent_calls=2)))[0] for _ in range(6)]
    await asyncio.gather(*(task.for_step("s")("m").chat(ask("x")) for task in tasks))
    assert (client.most, loop_time()) == (2, 3.0)
    assert process.said[-1] == ("model m", "a call waits for its limits (concurrentCalls 2)")


@in_virtual_time
async def test_waiting_for_the_limits_costs_no_total_time() -> None:
    process = Process()
    client = PlayedClient(RateLimited("429", retry_after=1.0), "hello")
    fields = {"limits": Limits(requests_per_minute=1), "timeouts": Timeouts(total_seconds=10), "retry": CallRetry(limit=1)}
    models, _ = process.task({"m": client}, document("m", **fields))
    assert (await models.for_step("s")("m").chat(ask("x"))).text == "hello"
    assert loop_time() >= 59


@in_virtual_time
async def test_the_cost_is_that_of_the_model_that_answered() -> None:
    usage = Usage(calls=1, input_tokens=100_000)
    clients = {"big": PlayedClient("a", DOWN, usage=usage), "small": PlayedClient("b", usage=usage)}
    models, _ = Process().task(
        clients,
        document("big", fallback=("big", "small"), retry=CallRetry(limit=0), prices=Prices(input_per_million="10")),
        document("small", prices=Prices(input_per_million="1", currency="EUR")),
    )
    assert models.cost_text == ""
    for _ in range(2):
        await models.for_step("s")("big").chat(ask("x"))
    assert models.cost_text == "0.1000 EUR, 1.0000 USD"
    await models.aclose()
    assert [client.closed for client in clients.values()] == [1, 1]


async def test_a_fallback_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidTask, match="no AgentModel 'smal'; there are: big, small; did you mean 'small'"):
        Process().task({"big": PlayedClient(), "small": PlayedClient()}, document("big", fallback=("smal",)), document("small"))[
            0
        ].for_step("s")("big")


async def test_counting_tokens_is_an_ability_of_the_clients_that_have_it() -> None:
    class Counting(PlayedClient):
        async def count_tokens(self, texts):
            return [len(text) for text in texts]

    models, ends = Process().task({"a": Counting(), "b": PlayedClient()}, document("a", fallback=("b",)), document("b"))
    asked = models.for_step("s")
    counting = asked("a")
    assert isinstance(counting, CountsTokens)
    assert not isinstance(asked("b"), CountsTokens)
    assert await counting.count_tokens(["abc"]) == [3]
    assert ends.seen == []


@in_virtual_time
async def test_a_retry_is_told_once() -> None:
    lines: list[str] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    process, handler = Process(), Told()
    models, _ = process.task({"m": PlayedClient(DOWN, "fine")}, document("m"))
    logging.getLogger().addHandler(handler)
    try:
        await models.for_step("s")("m").chat(ask("x"))
    finally:
        logging.getLogger().removeHandler(handler)
    assert (len(process.said), lines) == (1, [])
