"""Models for tests of clients and engines: documents, a context, engines that need no weights."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp

from agenttask.api.document import ModelDocument
from agenttask.api.errors import ModelUnavailable
from agenttask.api.model import LocalModel, Timeouts
from agenttask.plugin.engine import Engine
from agenttask.plugin.llm import ChatRequest, ClientContext, Message


def model_document(client: str, **fields) -> ModelDocument:
    """An AgentModel `m`; calls end after 10 s."""
    fields = {"name": "m", "model": "weights-1", "timeouts": Timeouts(connect_seconds=2, total_seconds=10)} | fields
    return ModelDocument(client=client, **fields)


def ask(*texts: str, max_tokens: int = 64, system: str | None = None) -> ChatRequest:
    """User messages, after a system message where there is one."""
    first = (Message(role="system", content=system),) if system else ()
    return ChatRequest(messages=(*first, *(Message(role="user", content=text) for text in texts)), max_tokens=max_tokens)


class OneEngine:
    """An `EngineSource` that always gives this engine; `asked` remembers for what."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine
        self.asked: list[tuple[str, LocalModel]] = []

    @contextlib.asynccontextmanager
    async def lease(self, model_id: str, local: LocalModel) -> AsyncIterator[Engine]:
        self.asked.append((model_id, local))
        if self._engine is None:
            raise ModelUnavailable("there are no weights here")
        yield self._engine


def client_context(session: aiohttp.ClientSession | None = None, *, engine: Engine | None = None, credential: str | None = None):
    """What the runner lends to a client."""

    def lent() -> aiohttp.ClientSession:
        assert session is not None, "this client opens a session"
        return session

    return ClientContext(credential=credential, session=lent, engines=OneEngine(engine))
