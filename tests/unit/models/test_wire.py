"""What runner and model process say to each other: every message survives, cut or foreign bytes are told."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, OutOfMemory, RateLimited
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Chunk, Message, Usage
from agenttask_models import wire
from agenttask_models.torch_errors import DeviceLost

MESSAGES = [
    wire.Create(
        model_id="m",
        device="cpu",
        local=LocalModel(path="/m"),
        threads=2,
        memory_bytes=None,
        gpu_memory_fraction=0.5,
        device_processes=1,
        hub=True,
    ),
    wire.Generate(call=1, messages=(Message(role="user", content="ä"),), sampling=Sampling(stop=("x",), seed=3)),
    wire.Embed(call=2, texts=("a", "")),
    wire.Count(call=3, texts=()),
    wire.Cancel(call=1),
    wire.Ready(device="cuda:0", memory_bytes=7),
    wire.Log(message="loaded"),
    wire.Piece(call=1, chunk=Chunk(text="t", usage=Usage(calls=1), finish_reason="stop")),
    wire.Vectors(call=2, vectors=(b"\0\1\2\3",), usage=Usage()),
    wire.Counts(call=3, counts=(1, 2)),
    wire.Failed(call=0, kind="OutOfMemory", message="full"),
]


def reader(raw: bytes) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(raw)
    stream.feed_eof()
    return stream


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
async def test_every_message_survives(message):
    stream = reader(wire.frame(message) * 2)
    asked = isinstance(message, wire.Create | wire.Generate | wire.Embed | wire.Count | wire.Cancel)
    for _ in range(2):
        assert (wire.decode_asked if asked else wire.decode_told)(await wire.read_frame(stream)) == message
    assert await wire.read_frame(stream) is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 30))
def test_a_message_that_is_cut_is_the_end(cut):
    raw = wire.frame(wire.Log(message="x" * 40))[:cut]

    async def read() -> bytes | None:
        return await wire.read_frame(reader(raw))

    assert asyncio.run(read()) is None


async def test_a_message_longer_than_any_is_refused():
    with pytest.raises(ModelUnavailable, match=r"a message of 4294967295 bytes, at most \d+ are read"):
        await wire.read_frame(reader(b"\xff" * 8))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemory("full"), OutOfMemory),
        (RateLimited("later"), RateLimited),
        (ModelRejected("no"), ModelRejected),
        (DeviceLost("broken"), ModelUnavailable),
        (RuntimeError("shape"), ModelUnavailable),
        (InvalidTask("", "not its business"), ModelUnavailable),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_errors_keep_their_kind(error, kind):
    told = wire.error_of(wire.failed(4, error))
    assert type(told) is kind
    assert str(error) in str(told)


def test_a_kind_that_nobody_knows_is_unavailable():
    assert type(wire.error_of(wire.Failed(call=1, kind="annotations", message="m"))) is ModelUnavailable
