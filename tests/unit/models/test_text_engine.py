"""The engine of a language model over a batch that is scripted: order, ends, places, rebuilding, leaving. No torch."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from agenttask.api.errors import Interrupted, ModelRejected, ModelUnavailable, OutOfMemory, RateLimited
from agenttask.plugin.engine import MayFail, OccupiesMemory, Sampling
from agenttask.plugin.llm import CountsTokens, Message, Usage
from agenttask_models import text
from agenttask_models.pieces import TextPieces
from agenttask_models.text import WAITING, TextEngine
from agenttask_models.torch_errors import DeviceLost

ASKED = (Message(role="user", content="hi"),)
END = 0


class AcceleratorError(RuntimeError):
    """As torch calls it."""


class Letters:
    """A token is a letter's number; the prompt is as long as the messages."""

    window = 100
    stops = (END,)

    def prompt(self, messages):
        return [ord(letter) for message in messages for letter in message.content]

    def pieces(self):
        return TextPieces(lambda tokens: "".join(map(chr, tokens)))

    def count(self, texts):
        return [len(each) for each in texts]


@dataclass
class Said:
    generated_tokens: list[int]
    error: str | None = None
    finished: bool = False

    def is_finished(self) -> bool:
        return self.finished


@dataclass
class Scripted:
    """A batch whose requests say what the test tells them to."""

    tokens: int = 1000
    memory_bytes: int = 7
    ended: BaseException | None = None
    requests: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    cancelled: list = field(default_factory=list)
    rebuilt: int = 0
    closed: int = 0
    accepts: bool = True

    def submit(self, request, prompt, *, max_tokens, temperature, seed, handler):
        self.asked.append((len(prompt), max_tokens, temperature, seed))
        if not self.accepts:
            return False
        self.requests[request] = handler
        return True

    def say(self, words: str, *, finished: bool = False, end: bool = False, request: str | None = None) -> None:
        name = request or list(self.requests)[-1]
        self.requests[name](Said([*map(ord, words), *([END] if end else [])], finished=finished or end))

    def fail(self, why: str) -> None:
        for handler in self.requests.values():
            handler(Said([], error=why, finished=True))
        self.requests.clear()

    def cancel(self, request):
        self.cancelled.append(request)

    def problem(self):
        return self.ended

    def settle(self):
        return self.ended

    def rebuild(self):
        self.rebuilt += 1
        self.ended = None
        self.tokens //= 2

    def close(self):
        self.closed += 1
        self.ended = RuntimeError("closed")
        self.fail("closed")


@pytest.fixture
def engine_of():
    made = []

    def make(batch, slots=2) -> TextEngine:
        made.append(ThreadPoolExecutor(max_workers=1))
        return TextEngine("m", Letters(), batch, made[-1], slots=slots, device="cpu", weights=100)

    yield make
    for thread in made:
        thread.shutdown(wait=True, cancel_futures=True)


async def begun(batch, count=1) -> None:
    while len(batch.asked) < count:  # noqa: ASYNC110 - the double has no event to wait for
        await asyncio.sleep(0.001)


async def answer(engine, **sampling):
    return [chunk async for chunk in engine.generate(ASKED, Sampling(**sampling))]


def start(engine, **sampling):
    return asyncio.ensure_future(answer(engine, **sampling))


async def test_pieces_come_in_order_and_the_last_chunk_tells_how_it_ended(engine_of):
    batch = Scripted()
    call = start(engine_of(batch), max_tokens=9)
    await begun(batch)
    batch.say("a")
    batch.say("ab")
    batch.say("ab", end=True)
    chunks = await call
    assert [chunk.text for chunk in chunks] == ["a", "b", ""]
    assert (chunks[-1].usage, chunks[-1].finish_reason) == (Usage(calls=1, input_tokens=2, output_tokens=3), "stop")
    assert batch.cancelled == []


async def test_an_answer_that_ran_out_of_tokens_says_length(engine_of):
    batch = Scripted()
    call = start(engine_of(batch), max_tokens=2)
    await begun(batch)
    batch.say("ab", finished=True)
    assert (await call)[-1].finish_reason == "length"


async def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(engine_of):
    batch = Scripted()
    call = start(engine_of(batch), stop=("STOP", "never"))
    await begun(batch)
    batch.say("one S")
    batch.say("one STOP and more")
    chunks = await call
    assert "".join(chunk.text for chunk in chunks) == "one "
    assert chunks[-1].finish_reason == "stop"
    assert batch.cancelled == ["r0"]


async def test_the_beginning_of_a_stop_text_is_told_when_it_was_none(engine_of):
    batch = Scripted()
    call = start(engine_of(batch), stop=("STOP",))
    await begun(batch)
    batch.say("an S", end=True)
    assert "".join(chunk.text for chunk in await call) == "an S"


async def test_sampling_travels_with_the_request_and_a_missing_seed_is_drawn(engine_of):
    batch = Scripted()
    engine = engine_of(batch)
    calls = [start(engine, temperature=0.5, seed=7), start(engine, temperature=0.5), start(engine, temperature=0.5), start(engine)]
    await begun(batch, 4)
    assert batch.asked[0] == (2, 98, 0.5, 7)
    assert batch.asked[1][3] != batch.asked[2][3]
    assert batch.asked[3][2] is None
    for request in list(batch.requests):
        batch.say("x", end=True, request=request)
    await asyncio.gather(*calls)


async def test_leaving_early_frees_the_place(engine_of):
    batch = Scripted()
    chunks = engine_of(batch).generate(ASKED, Sampling())
    first = asyncio.ensure_future(anext(chunks))
    await begun(batch)
    batch.say("a")
    assert (await first).text == "a"
    await chunks.aclose()
    assert batch.cancelled == ["r0"]


async def test_more_than_may_wait_are_told_to_come_again(engine_of):
    batch = Scripted()
    engine = engine_of(batch, slots=1)
    calls = [start(engine) for _ in range(WAITING + 1)]
    await begun(batch, WAITING + 1)
    with pytest.raises(RateLimited, match=r"has 65 answers to give; ask later, or raise local\.maxBatch") as caught:
        await answer(engine)
    assert caught.value.retry_after == 1
    for request in list(batch.requests):
        batch.say("x", end=True, request=request)
    await asyncio.gather(*calls)
    again = start(engine)
    await begun(batch, WAITING + 2)
    batch.say("x", end=True)
    await again


@pytest.mark.parametrize(
    ("length", "cache", "problem"),
    [
        (100, 1000, "the prompt has 100 tokens, model 'm' takes 99; shorten it"),
        (60, 60, r"attention cache of model 'm' holds 60; .*local\.memory"),
    ],
    ids=["window", "cache"],
)
async def test_a_prompt_that_fits_nowhere_is_refused_with_the_numbers(engine_of, length, cache, problem):
    engine = engine_of(Scripted(tokens=cache))
    with pytest.raises(ModelRejected, match=problem):
        await anext(engine.generate((Message(role="user", content="x" * length),), Sampling()))


async def test_an_answer_is_no_longer_than_window_and_cache_allow(engine_of):
    batch = Scripted(tokens=40)
    call = start(engine_of(batch), max_tokens=512)
    await begun(batch)
    assert batch.asked[0][1] == 38
    batch.say("x", end=True)
    await call


async def test_a_batch_that_breaks_fails_its_answers_and_is_made_anew_for_the_next(engine_of):
    batch = Scripted()
    engine = engine_of(batch)
    calls = [start(engine), start(engine)]
    await begun(batch, 2)
    batch.ended = MemoryError("CUDA out of memory\nmore")
    batch.fail("CUDA out of memory\nmore")
    for failed in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(failed, ModelUnavailable)
        assert str(failed) == "model 'm' broke off: CUDA out of memory"
    calls = [start(engine), start(engine)]
    await begun(batch, 4)
    assert (batch.rebuilt, batch.tokens) == (1, 500)
    for request in list(batch.requests):
        batch.say("x", end=True, request=request)
    await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("error", "kind"), [(MemoryError("full"), OutOfMemory), (RuntimeError("shape"), ModelUnavailable)], ids=["memory", "other"]
)
async def test_the_third_break_is_the_end(engine_of, error, kind):
    batch = Scripted()
    engine = engine_of(batch)
    for _ in range(2):
        batch.ended = error
        call = start(engine)
        await begun(batch, batch.rebuilt + 1)
        batch.say("x", end=True)
        await call
    batch.ended = error
    for _ in range(2):
        with pytest.raises(kind, match="broke off 3 times, with less cache each time"):
            await answer(engine)
    assert isinstance(engine.failure, kind)
    assert batch.rebuilt == 2


async def test_a_lost_device_is_not_tried_again(engine_of):
    batch = Scripted(ended=AcceleratorError("illegal memory access"))
    engine = engine_of(batch)
    with pytest.raises(DeviceLost, match="lost its device: illegal memory access"):
        await answer(engine)
    assert (batch.rebuilt, isinstance(engine.failure, DeviceLost)) == (0, True)


async def test_a_batch_that_ends_between_two_calls_is_told(engine_of):
    with pytest.raises(ModelUnavailable, match="broke off"):
        await answer(engine_of(Scripted(accepts=False)))


async def test_a_batch_that_dies_in_silence_is_noticed(engine_of, monkeypatch):
    monkeypatch.setattr(text, "_LOOK_SECONDS", 0.01)
    batch = Scripted()
    call = start(engine_of(batch))
    await begun(batch)
    await asyncio.sleep(0.03)
    assert not call.done()
    batch.ended = RuntimeError("the batch's thread has ended")
    with pytest.raises(ModelUnavailable, match="thread has ended"):
        await call


async def test_a_text_model_does_not_embed_and_counts_tokens(engine_of):
    engine = engine_of(Scripted())
    with pytest.raises(ModelRejected, match="does not embed"):
        await engine.embed(["x"])
    assert await engine.count_tokens(["ab", ""]) == [2, 0]
    assert isinstance(engine, CountsTokens)
    assert isinstance(engine, OccupiesMemory)
    assert isinstance(engine, MayFail)
    assert (engine.memory_bytes, engine.device) == (107, "cpu")


async def test_closing_stops_what_runs_and_refuses_what_comes(engine_of):
    batch = Scripted()
    engine = engine_of(batch)
    call = start(engine)
    await begun(batch)
    await engine.aclose()
    with pytest.raises(Interrupted):
        await call
    for refused in (answer(engine), engine.count_tokens(["x"])):
        with pytest.raises(Interrupted):
            await refused
    assert batch.closed == 1


async def test_an_answer_whose_thread_was_let_go_is_interrupted(engine_of):
    engine = engine_of(Scripted())
    busy = threading.Event()
    engine._thread.submit(busy.wait, 60)
    call = start(engine)
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(engine.aclose())
    await asyncio.sleep(0.01)
    busy.set()
    await closing
    with pytest.raises((Interrupted, asyncio.CancelledError)):
        await call
