"""Models: a client each, counted and observed."""

from typing import Any

import aiohttp
import pytest
from tests.fakes.runner_plugins import Answering, plugins

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelUnavailable
from agenttask.plugin.llm import ChatRequest, ClientContext, LLMClient, Message, Usage
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.models import Models, credential_of
from agenttask.runner.observer import NullObserver
from agenttask.runner.session import SharedSession

SMALL = ModelDocument(name="small", client="answering", model="gpt-x", credential_env="AGENTTASK_CREDENTIAL_0")
ASK = ChatRequest(messages=(Message(role="user", content="hi"),))


class Calls(NullObserver):
    """What was told of calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def model_call_started(self, call: int, step: str, model: ModelDocument, operation: str, *, max_tokens: int | None) -> None:
        self.seen.append(("started", call, step, model.name, operation, max_tokens))

    def model_call_ended(
        self, call: int, *, seconds: float, usage: Usage, finish_reason: str | None, answered_by: str, error: BaseException | None
    ) -> None:
        self.seen.append(("ended", call, usage, finish_reason, answered_by, type(error).__name__ if error else None))


class Failing(Answering):
    """Refuses, and fails to close."""

    async def chat(self, request: ChatRequest) -> Any:
        raise ModelUnavailable("refused")

    async def aclose(self) -> None:
        self.closed = True
        raise RuntimeError("closing")


def models(observer: NullObserver, made: list[LLMClient] | None = None, client: type[Answering] = Answering) -> Models:
    def create(document: ModelDocument, context: ClientContext) -> LLMClient:
        found = client(document, context)
        if made is not None:
            made.append(found)
        return found

    def context(document: ModelDocument) -> ClientContext:
        return ClientContext(credential=credential_of(document, {"AGENTTASK_CREDENTIAL_0": "key\n"}), session=SharedSession(), engines=None)  # type: ignore[arg-type]

    chosen = plugins(clients={"made": create})
    return Models(
        [SMALL, ModelDocument(name="made", client="made", model="m", credential_env="AGENTTASK_CREDENTIAL_0")],
        factory=chosen.llm_clients.choose,
        context=context,
        observer=observer,
        endpoints=Endpoints(log=lambda _about, _what: None, clock=lambda: 0.0),
        log=lambda _about, _what: None,
        clock=lambda: 0.0,
    )


async def test_calls_are_counted_and_observed_whole_streamed_and_embedded() -> None:
    calls = Calls()
    found = models(calls)
    client = found.for_step("ask")("small")
    assert (await client.chat(ASK)).text == "gpt-x: hi"
    assert [chunk.text async for chunk in client.stream(ASK)] == ["one ", "two"]
    assert len((await client.embed(["a", "b"])).vectors) == 2
    await client.aclose()
    assert found.usage == Usage(calls=3, input_tokens=10, output_tokens=10)
    assert calls.seen == [
        ("started", 1, "ask", "small", "chat", 512),
        ("ended", 1, Usage(calls=1, input_tokens=3, output_tokens=4), "stop", "answering-1", None),
        ("started", 2, "ask", "small", "chat", 512),
        ("ended", 2, Usage(calls=1, input_tokens=5, output_tokens=6), "stop", "answering-1", None),
        ("started", 3, "ask", "small", "embed", None),
        ("ended", 3, Usage(calls=1, input_tokens=2), None, "", None),
    ]


async def test_a_client_is_made_once_and_gets_its_credential_without_the_line_break() -> None:
    made: list[Any] = []
    found = models(NullObserver(), made)
    for step in ("a", "b"):
        await found.for_step(step)("made").chat(ASK)
    assert [client.context.credential for client in made] == ["key"]
    await found.aclose()
    assert made[0].closed


async def test_a_call_that_fails_counts_and_a_client_that_cannot_close_says_so() -> None:
    calls, made = Calls(), []
    found = models(calls, made, Failing)
    with pytest.raises(ModelUnavailable):
        await found.for_step("a")("made").chat(ASK)
    assert (found.usage.calls, calls.seen[-1][-1]) == (1, "ModelUnavailable")
    with pytest.raises(RuntimeError, match="closing"):
        await found.aclose()


async def test_a_stream_that_is_left_is_closed_and_counted() -> None:
    calls = Calls()
    found = models(calls)
    stream = found.for_step("ask")("small").stream(ASK)
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert calls.seen[-1][0] == "ended"


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(InvalidTask, match=r"no AgentModel 'smal'; there are: made, small; did you mean 'small'"):
        models(NullObserver()).for_step("a")("smal")


def test_a_missing_credential_is_told_by_its_variable() -> None:
    with pytest.raises(InvalidTask, match="AGENTTASK_CREDENTIAL_0"):
        credential_of(SMALL, {})
    assert credential_of(ModelDocument(name="free", client="answering", model="m"), {}) is None


async def test_the_session_is_made_once_and_trusts_no_proxy_variable() -> None:
    session = SharedSession()
    await session.aclose()
    made = session()
    assert made is session()
    assert isinstance(made.connector, aiohttp.TCPConnector)
    assert (made.trust_env, made.connector.limit, made.connector.limit_per_host) == (False, 100, 10)
    await session.aclose()
    assert made.closed
