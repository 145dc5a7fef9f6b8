"""The wire format of Anthropic's Messages API, as far as we read it; unknown fields are skipped, unknown events too."""

from msgspec import Struct

from agenttask.plugin.llm import Usage
from agenttask_llm.failures import WireError


class WireTokens(Struct, frozen=True, kw_only=True):
    """Tokens as the endpoint counted them; those of its prompt cache are counted apart."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class WireBlock(Struct, frozen=True, kw_only=True):
    """A block of an answer, or a piece of one; only text has `text`."""

    text: str | None = None


class WireMessage(Struct, frozen=True, kw_only=True):
    """A whole answer, or its beginning; an error in place of one has `error`."""

    content: list[WireBlock] | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: WireTokens | None = None
    error: WireError | None = None


class WireDelta(Struct, frozen=True, kw_only=True):
    """What an event adds: text to a block, or the reason to stop."""

    type: str | None = None
    text: str | None = None
    stop_reason: str | None = None


class WireEvent(Struct, frozen=True, kw_only=True):
    """An event of a stream; `type` says which of the fields it has."""

    type: str
    message: WireMessage | None = None
    content_block: WireBlock | None = None
    delta: WireDelta | None = None
    usage: WireTokens | None = None
    error: WireError | None = None


class Counted:
    """The usage of one call, put together from what several events say; the last word on each number stands."""

    def __init__(self) -> None:
        self._input = 0
        self._output = 0

    def take(self, tokens: WireTokens | None) -> None:
        """Numbers that are not given stay as they are."""
        if tokens is None:
            return
        read = (tokens.input_tokens, tokens.cache_creation_input_tokens, tokens.cache_read_input_tokens)
        if tokens.input_tokens is not None:
            self._input = sum(max(0, number or 0) for number in read)
        if tokens.output_tokens is not None:
            self._output = max(0, tokens.output_tokens)

    @property
    def usage(self) -> Usage:
        """One call."""
        return Usage(calls=1, input_tokens=self._input, output_tokens=self._output)
