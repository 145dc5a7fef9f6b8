"""LLM clients: one protocol for remote endpoints, local engines and scripted answers.

Limits, retries, breakers and spans are clients around a client (`plugin` users compose them), never flags inside one.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from agenttask.api.document import ModelDocument

if TYPE_CHECKING:
    import aiohttp  # a fifth of a second that a process without HTTP does not spend

    from agenttask.plugin.engine import EngineSource


class Message(Struct, frozen=True, kw_only=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Usage(Struct, frozen=True, kw_only=True):
    """Model calls and tokens; usages add."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


class ChatRequest(Struct, frozen=True, kw_only=True):
    """One chat completion; `max_tokens` bounds the answer, `temperature` None leaves it to the model (a local one is greedy then)."""

    messages: tuple[Message, ...]
    max_tokens: int = 512
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_schema: dict[str, Any] | None = None
    """JSON Schema, for endpoints that can hold an answer to it; whoever asks checks the answer all the same."""


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer; `model` is the name that the endpoint gives itself."""

    text: str
    usage: Usage
    finish_reason: str = "stop"
    model: str = ""
    agent_model: str = ""
    """The AgentModel that answered, set where it has fallbacks."""


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece of an answer; the last one has `usage` and `finish_reason`."""

    text: str = ""
    usage: Usage | None = None
    finish_reason: str | None = None
    model: str = ""
    agent_model: str = ""
    """The AgentModel that answers, set where it has fallbacks."""


class Embeddings(Struct, frozen=True, kw_only=True):
    """Vectors in the order of the texts."""

    vectors: tuple[Sequence[float], ...]
    usage: Usage


class LLMClient(Protocol):
    """A model that can be called. Errors are ModelUnavailable, RateLimited and ModelRejected (api/errors.py)."""

    async def chat(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The answer piece by piece; closing the iterator cancels the call."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text."""
        ...

    async def aclose(self) -> None:
        """Free what the client holds; the context's session and engines are not its own."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """An ability that some clients have: the model's own tokens."""

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """How many tokens each text has."""
        ...


class ClientContext(Struct, frozen=True, kw_only=True):
    """What a client may use: the endpoint's credential, an HTTP session, local engines."""

    credential: str | None
    session: "Callable[[], aiohttp.ClientSession]"
    """Made at the first call, on the run's connections; it has the model's headers, CA bundle and HTTP/2 mode."""
    engines: "EngineSource"


LLMClientFactory = Callable[[ModelDocument, ClientContext], LLMClient]
