"""Calls through all clients around a client, to a real endpoint over HTTP: storms of 429, an endpoint that is down, a stall."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.fakes.llm_server import LLMServer, llm_server
from tests.fakes.models import OneEngine, ask

from agenttask.api.document import ModelDocument
from agenttask.api.errors import ModelUnavailable, RateLimited
from agenttask.api.model import CallRetry, CircuitBreaker, Limits, Prices, Timeouts
from agenttask.plugin.llm import ClientContext
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.models import Models
from agenttask.runner.observer import NullObserver
from agenttask.runner.session import SharedSession
from agenttask_llm import agenttask_llm_clients

FACTORIES = agenttask_llm_clients()
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(params=["openai", "anthropic"])
def client(request) -> str:
    return request.param


@pytest.fixture
async def server():
    async with llm_server() as running:
        yield running


class Task:
    """A task's models on one session, and what its log says."""

    def __init__(self, session: SharedSession, *documents: ModelDocument) -> None:
        self.said: list[str] = []
        self.models = Models(
            documents,
            factory=FACTORIES.__getitem__,
            context=lambda document: ClientContext(credential="sk-1", session=session.for_model(document), engines=OneEngine()),
            observer=NullObserver(),
            endpoints=Endpoints(log=self._log),
            log=self._log,
            random=lambda: 1.0,
        )

    def _log(self, about: str, what: str) -> None:
        self.said.append(f"{about}: {what}")

    async def chat(self, name: str) -> str:
        return (await self.models.for_step("s")(name).chat(ask("hi"))).text

    async def stream(self, name: str) -> str:
        return "".join([chunk.text async for chunk in self.models.for_step("s")(name).stream(ask("hi"))])


@asynccontextmanager
async def task(*documents: ModelDocument):
    session = SharedSession()
    try:
        yield Task(session, *documents)
    finally:
        await session.aclose()


def document(client: str, server: LLMServer | None, name: str = "m", **fields: Any) -> ModelDocument:
    here = NOWHERE if server is None else server.endpoint if client == "openai" else server.url
    return ModelDocument(**{"name": name, "client": client, "model": "weights-1", "endpoint": here} | fields)


@pytest.mark.parametrize("how", ["chat", "stream"])
@pytest.mark.parametrize("wish", ["0", "Wed, 01 Jan 2025 00:00:20 GMT", None], ids=["seconds", "date", "none"])
async def test_a_storm_of_429_and_503_is_ridden_out(client, server, how, wish):
    server.behaviour.statuses = [429, 503, 429]
    server.behaviour.headers = {} if wish is None else {"Retry-After": wish}
    async with task(document(client, server, retry=CallRetry(limit=3, max_backoff_seconds=1))) as running:
        assert await getattr(running, how)("m") == "echo: hi"
        assert (len(server.requests), len(running.said), running.models.usage.calls) == (4, 3, 1)


async def test_a_server_that_wants_an_hour_is_told_at_once(client, server):
    server.behaviour.status, server.behaviour.headers = 429, {"Retry-After": "3600"}
    async with task(document(client, server)) as running:
        with pytest.raises(RateLimited, match=r"its Retry-After of 3600 s is beyond the \d+ s that are left of totalSeconds 300"):
            await running.chat("m")
        assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["chat", "stream"])
async def test_a_model_that_is_down_is_answered_for_by_its_fallback_and_left_alone(client, server, how):
    down = document(
        client,
        None,
        "down",
        fallback=("m",),
        retry=CallRetry(limit=0),
        circuit_breaker=CircuitBreaker(minimum_calls=2, failure_percent=100, open_seconds=3600),
    )
    async with task(down, document(client, server, prices=Prices(input_per_million="1000"))) as running:
        for _ in range(3):
            assert await getattr(running, how)("down") == "echo: hi"
        assert [line.split(":")[1].strip() for line in running.said] == [
            "asks 'm' in place of 'down'",
            "circuit breaker open for 3600 s",
            "asks 'm' in place of 'down'",
            "asks 'm' in place of 'down'",
        ]
        assert running.models.cost_text == "0.0030 USD"


async def test_a_stall_before_the_first_piece_is_tried_again(client, server):
    server.behaviour.stall_after = 1
    given = {"timeouts": Timeouts(first_token_seconds=1, total_seconds=60), "retry": CallRetry(limit=1)}
    async with task(document(client, server, **given)) as running:
        with pytest.raises(ModelUnavailable, match=r"firstTokenSeconds 1\) \(after 2 tries"):
            await running.stream("m")
        assert len(server.requests) == 2


async def test_fifty_calls_keep_to_the_limit(client, server):
    server.behaviour.delay = 0.01
    async with task(document(client, server, limits=Limits(concurrent_calls=4, requests_per_minute=1000))) as running:
        assert await asyncio.gather(*(running.chat("m") for _ in range(50))) == ["echo: hi"] * 50
    assert server.most <= 4
