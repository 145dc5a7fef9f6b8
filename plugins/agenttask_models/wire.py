"""What the runner and the process of an isolated engine say to each other: msgpack, four bytes of length before each message."""

import asyncio
from typing import Final

import msgspec
from msgspec import Struct

from agenttask.api import errors
from agenttask.api.errors import AgentTaskError, ModelUnavailable
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Chunk, Message, Usage

_LENGTH: Final = 4
MAX_MESSAGE: Final = 256 << 20
"""A million texts or vectors; beyond it somebody talks nonsense."""


class Create(Struct, frozen=True, kw_only=True, tag="create"):
    """The first message: what to load."""

    model_id: str
    device: str
    local: LocalModel
    threads: int
    memory_bytes: int | None
    gpu_memory_fraction: float
    device_processes: int
    hub: bool


class Generate(Struct, frozen=True, kw_only=True, tag="generate"):
    """Answer."""

    call: int
    messages: tuple[Message, ...]
    sampling: Sampling


class Embed(Struct, frozen=True, kw_only=True, tag="embed"):
    """One vector a text."""

    call: int
    texts: tuple[str, ...]


class Count(Struct, frozen=True, kw_only=True, tag="count"):
    """Tokens of each text."""

    call: int
    texts: tuple[str, ...]


class Cancel(Struct, frozen=True, kw_only=True, tag="cancel"):
    """Nobody waits any more."""

    call: int


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The model is loaded."""

    device: str
    memory_bytes: int


class Log(Struct, frozen=True, kw_only=True, tag="log"):
    """A line for the log."""

    message: str


class Piece(Struct, frozen=True, kw_only=True, tag="piece"):
    """A part of an answer; the last has a finish reason."""

    call: int
    chunk: Chunk


class Vectors(Struct, frozen=True, kw_only=True, tag="vectors"):
    """float32 in this machine's order."""

    call: int
    vectors: tuple[bytes, ...]
    usage: Usage


class Counts(Struct, frozen=True, kw_only=True, tag="counts"):
    """Answer to `Count`."""

    call: int
    counts: tuple[int, ...]


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """A call's error, or (call 0) the loading's; `kind` is the class in api/errors.py."""

    call: int
    kind: str
    message: str


Asked = Create | Generate | Embed | Count | Cancel
Told = Ready | Log | Piece | Vectors | Counts | Failed
_encode = msgspec.msgpack.Encoder().encode
decode_asked = msgspec.msgpack.Decoder(Asked).decode
decode_told = msgspec.msgpack.Decoder(Told).decode


def frame(message: Asked | Told) -> bytes:
    """A message as it goes over the pipe."""
    raw = _encode(message)
    return len(raw).to_bytes(_LENGTH, "big") + raw


async def read_frame(stream: asyncio.StreamReader) -> bytes | None:
    """The next message; None at the end of the pipe, or where it was cut.

    Raises:
        ModelUnavailable: it is longer than anything that is said here.
    """
    try:
        length = int.from_bytes(await stream.readexactly(_LENGTH), "big")
        if length > MAX_MESSAGE:
            raise ModelUnavailable(f"the model's process sends a message of {length} bytes, at most {MAX_MESSAGE} are read")
        return await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def failed(call: int, error: BaseException) -> Failed:
    """An error as a message; one that is none of ours is the model's."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__]
    kind = kinds[0] if kinds else ModelUnavailable.__name__
    return Failed(call=call, kind=kind, message=str(error) if kinds else f"{type(error).__name__}: {error}")


def error_of(told: Failed) -> AgentTaskError:
    """The error that a message tells."""
    kind = getattr(errors, told.kind, None)
    if isinstance(kind, type) and issubclass(kind, AgentTaskError) and not issubclass(kind, errors.InvalidTask):
        return kind(told.message)
    return ModelUnavailable(told.message)
