"""Our parts, put together for benchmarks as a run of a task does."""

from collections.abc import Awaitable, Callable

import aiohttp

from agenttask.api.document import ModelDocument
from agenttask.plugin.llm import ChatRequest, ClientContext, Message
from agenttask.plugin.registry import load
from agenttask.runner.llm.endpoints import Endpoints
from agenttask.runner.models import Models
from agenttask.runner.observer import NullObserver
from agenttask.runner.session import SharedSession

Close = Callable[[], Awaitable[None]]


def model_document(url: str, roots: str, *, http2: bool) -> ModelDocument:
    """An AgentModel as the controller resolves it."""
    return ModelDocument(
        name="m", client="openai", model="mock", endpoint=f"{url}/v1", ca_file=roots, http2="Auto" if http2 else "Disabled"
    )


def bare_session(url: str, roots: str) -> tuple[aiohttp.ClientSession, Close]:
    """The run's session without anything around it."""
    shared = SharedSession()
    return shared.for_model(model_document(url, roots, http2=True))(), shared.aclose


async def model_call(url: str, roots: str, prompt: str, *, http2: bool) -> tuple[Callable[[float], Awaitable[None]], Close]:
    """What a step's `chat` does, by the client that a step gets; the delay is asked for by a header of its session."""
    shared = SharedSession()
    document = model_document(url, roots, http2=http2)
    session = shared.for_model(document)()

    class Engineless:
        """No local models here."""

    models = Models(
        (document,),
        factory=load().llm_clients.choose,
        context=lambda _: ClientContext(credential="x", session=lambda: session, engines=Engineless()),  # type: ignore[arg-type]
        observer=NullObserver(),
        endpoints=Endpoints(log=_silent),
        log=_silent,
    )
    client = models.for_step("bench")("m")
    request = ChatRequest(messages=(Message(role="user", content=prompt),), max_tokens=256)

    async def call(delay: float) -> None:
        session.headers["x-delay-ms"] = str(delay)  # read when the request is made, before anything is awaited
        answer = await client.chat(request)
        assert answer.text

    async def close() -> None:
        await models.aclose()
        await shared.aclose()

    return call, close


def _silent(_about: str, _message: str) -> None:
    """Nobody reads the log of a benchmark."""
