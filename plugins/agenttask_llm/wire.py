"""The OpenAI-compatible wire format, as far as we send and read it; unknown fields are skipped, every default is lenient.

Servers differ in what they leave out: `usage` may be null, `content` may be null, `index` may be missing.
"""

from msgspec import Struct

from agenttask.plugin.llm import Usage
from agenttask_llm.failures import WireError


class WireUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the server counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class WireMessage(Struct, frozen=True, kw_only=True):
    """A message of an answer, or a piece of one."""

    content: str | None = None


class WireChoice(Struct, frozen=True, kw_only=True):
    """One answer: `message` when it is whole, `delta` when it is a piece."""

    message: WireMessage | None = None
    delta: WireMessage | None = None
    finish_reason: str | None = None


class WireCompletion(Struct, frozen=True, kw_only=True):
    """An answer, or an event of one."""

    choices: list[WireChoice] | None = None
    usage: WireUsage | None = None
    model: str | None = None
    error: WireError | str | None = None


class WireVector(Struct, frozen=True, kw_only=True):
    """One vector; `index` tells which text it belongs to."""

    embedding: list[float]
    index: int | None = None


class WireEmbeddings(Struct, frozen=True, kw_only=True):
    """Vectors, in any order."""

    data: list[WireVector]
    usage: WireUsage | None = None


def usage_of(usage: WireUsage | None) -> Usage:
    """One call; tokens that the server did not count are not invented."""
    if usage is None:
        return Usage(calls=1)
    return Usage(calls=1, input_tokens=max(0, usage.prompt_tokens or 0), output_tokens=max(0, usage.completion_tokens or 0))
