"""The program of an isolated engine, in this process over two pipes: calls, cancelling, what ends it."""

import asyncio
import os
from array import array
from contextlib import asynccontextmanager

import pytest
from tests.fakes.model_process import WordsFactory

from agenttask.api.model import LocalModel
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Message, Usage
from agenttask_models import child, wire


class Plain:
    """An engine without abilities, whose answers are no generator."""

    class Once:
        def __init__(self):
            self.left = 1

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return wire.Chunk(text="once", finish_reason="stop")

    def generate(self, _messages, _sampling):
        return self.Once()

    async def aclose(self):
        pass


class PlainFactory:
    async def create(self, _model_id, _device, _config):
        return Plain()


class Talk:
    """The parent's side."""

    def __init__(self, reader, writer, running):
        self.reader, self.writer, self.running = reader, writer, running

    def say(self, *messages) -> None:
        for message in messages:
            self.writer.write(wire.frame(message))

    async def hear(self):
        raw = await wire.read_frame(self.reader)
        return None if raw is None else wire.decode_told(raw)


@asynccontextmanager
async def talking(factory):
    loop = asyncio.get_running_loop()
    (down_read, down_write), (up_read, up_write) = os.pipe(), os.pipe()
    running = asyncio.ensure_future(child.run(factory, down_read, up_write))
    reader = asyncio.StreamReader()
    incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(up_read, "rb", buffering=0))
    pipe, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(down_write, "wb", buffering=0))
    writer = asyncio.StreamWriter(pipe, protocol, None, loop)
    yield Talk(reader, writer, running)
    writer.close()
    await asyncio.wait({running}, timeout=10)
    incoming.close()


def create(path="/m") -> wire.Create:
    return wire.Create(
        model_id="m",
        device="cpu",
        local=LocalModel(path=path),
        threads=1,
        memory_bytes=None,
        gpu_memory_fraction=0.8,
        device_processes=1,
        hub=False,
    )


def generate(call: int, prompt: str) -> wire.Generate:
    return wire.Generate(call=call, messages=(Message(role="user", content=prompt),), sampling=Sampling(max_tokens=3))


async def ready(talk) -> None:
    heard = [await talk.hear(), await talk.hear()]
    assert wire.Ready(device="cpu", memory_bytes=42) in heard
    assert wire.Log(message="m on cpu, Thread") in heard


async def test_it_answers_embeds_and_counts():
    async with talking(WordsFactory()) as talk:
        talk.say(create(), create())  # a second wish is passed over
        await ready(talk)
        talk.say(generate(1, "hi"), wire.Embed(call=2, texts=("abc",)), wire.Count(call=3, texts=("abc",)))
        heard = [await talk.hear() for _ in range(4)]
    assert [told.chunk.text for told in heard if isinstance(told, wire.Piece)] == ["hi ", ""]
    assert wire.Vectors(call=2, vectors=(array("f", [3.0, 0.5]).tobytes(),), usage=Usage(calls=1, input_tokens=1)) in heard
    assert wire.Counts(call=3, counts=(3,)) in heard
    assert talk.running.result() == 0


async def test_a_call_that_is_cancelled_is_left():
    async with talking(WordsFactory()) as talk:
        talk.say(create())
        await ready(talk)
        talk.say(generate(1, "wait"))
        assert (await talk.hear()).chunk.text == "soon"
        talk.say(wire.Cancel(call=1), wire.Cancel(call=9))
        for call in range(2, 12):  # it takes turns of the loop until the call has left
            talk.say(generate(call, "waiting"))
            said = (await talk.hear()).chunk.text
            await talk.hear()
            if said == "0 ":
                break
        assert said == "0 "


async def test_errors_are_told_and_a_lost_device_is_the_end():
    async with talking(WordsFactory()) as talk:
        talk.say(create())
        await ready(talk)
        talk.say(generate(1, "refuse"))
        assert await talk.hear() == wire.Failed(call=1, kind="ModelRejected", message="not that")
        talk.say(generate(2, "wait"))
        await talk.hear()
        talk.say(generate(3, "lost"))
        assert await talk.hear() == wire.Failed(call=3, kind="ModelUnavailable", message="illegal memory access")
        assert await talk.running == child.EXIT_LOST


async def test_a_load_that_fails_is_told_as_call_0():
    async with talking(WordsFactory()) as talk:
        talk.say(create("/full"))
        heard = [await talk.hear(), await talk.hear()]
        assert wire.Failed(call=0, kind="OutOfMemory", message="too large") in heard
        assert await talk.running == 1


@pytest.mark.parametrize("first", [None, wire.Cancel(call=1)], ids=["nothing", "another message"])
async def test_without_a_wish_there_is_nothing_to_do(first):
    async with talking(WordsFactory()) as talk:
        if first is not None:
            talk.say(first)
        talk.writer.close()
        assert await talk.running == child.EXIT_ORPHAN


async def test_an_engine_without_abilities_holds_nothing_and_counts_nothing():
    async with talking(PlainFactory()) as talk:
        talk.say(create())
        assert await talk.hear() == wire.Ready(device="cpu", memory_bytes=0)
        talk.say(generate(1, "x"))
        assert (await talk.hear()).chunk.text == "once"
        talk.say(wire.Count(call=2, texts=("x",)))
        assert await talk.hear() == wire.Counts(call=2, counts=())
