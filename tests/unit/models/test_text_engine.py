"""The engine of a language model: one answer at a time, pieces as they come, leaving stops the model. No torch."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agenttask.api.errors import Interrupted, ModelRejected
from agenttask.plugin.engine import Sampling
from agenttask.plugin.llm import Message, Usage
from agenttask_models.text import Ended, TextEngine

ASKED = (Message(role="user", content="hi"),)


class Words:
    """Answers its words; waits before each one where `gate` is given."""

    def __init__(self, *words: str, gate: threading.Semaphore | None = None, error: Exception | None = None) -> None:
        self._words, self._gate, self._error = words, gate, error
        self.running = self.most = 0
        self.stopped = threading.Event()

    def generate(self, messages, max_tokens, emit, cancelled):
        self.running += 1
        self.most = max(self.most, self.running)
        said = 0
        try:
            for word in self._words[:max_tokens]:
                while self._gate is not None and not self._gate.acquire(timeout=0.01):
                    if cancelled():
                        self.stopped.set()
                        return Ended(usage=Usage(calls=1), finish_reason="stop")
                emit(word)
                said += 1
            if self._error is not None:
                raise self._error
            return Ended(usage=Usage(calls=1, input_tokens=len(messages), output_tokens=said), finish_reason="stop")
        finally:
            self.running -= 1


@pytest.fixture
def engine_of():
    made = []

    def make(model) -> TextEngine:
        made.append(ThreadPoolExecutor(max_workers=1))
        return TextEngine("m", model, made[-1])

    yield make
    for thread in made:
        thread.shutdown(wait=True, cancel_futures=True)


async def answer(engine, max_tokens=9):
    return [chunk async for chunk in engine.generate(ASKED, Sampling(max_tokens=max_tokens))]


async def test_pieces_come_in_order_and_the_last_chunk_tells_how_it_ended(engine_of):
    chunks = await answer(engine_of(Words("a", "b", "c")), max_tokens=2)
    assert [chunk.text for chunk in chunks] == ["a", "b", ""]
    assert (chunks[-1].usage, chunks[-1].finish_reason) == (Usage(calls=1, input_tokens=1, output_tokens=2), "stop")


async def test_a_piece_is_there_before_the_answer_is_whole(engine_of):
    gate = threading.Semaphore(1)
    chunks = engine_of(Words("a", "b", gate=gate)).generate(ASKED, Sampling(max_tokens=9))
    assert (await anext(chunks)).text == "a"
    gate.release()
    assert [chunk.text async for chunk in chunks] == ["b", ""]


async def test_answers_wait_in_line(engine_of):
    model = Words(*"abcdef")
    answers = await asyncio.gather(*(answer(engine) for engine in [engine_of(model)] * 5))
    assert model.most == 1
    assert {len(chunks) for chunks in answers} == {7}


async def test_leaving_early_stops_the_model(engine_of):
    model = Words("a", "b", gate=threading.Semaphore(1))
    chunks = engine_of(model).generate(ASKED, Sampling(max_tokens=9))
    await anext(chunks)
    await chunks.aclose()
    assert await asyncio.to_thread(model.stopped.wait, 5)


async def test_an_answer_that_has_not_begun_is_taken_out_of_the_line(engine_of):
    gate = threading.Semaphore(1)
    engine = engine_of(Words("a", "b", gate=gate))
    first = engine.generate(ASKED, Sampling(max_tokens=9))
    await anext(first)
    waiting = asyncio.ensure_future(answer(engine))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.release()
    assert [chunk.text async for chunk in first] == ["b", ""]


async def test_an_error_of_the_model_reaches_the_reader_after_the_pieces(engine_of):
    chunks = engine_of(Words("a", error=ModelRejected("too long"))).generate(ASKED, Sampling(max_tokens=9))
    assert (await anext(chunks)).text == "a"
    with pytest.raises(ModelRejected, match="too long"):
        await anext(chunks)


async def test_a_text_model_does_not_embed(engine_of):
    with pytest.raises(ModelRejected, match="does not embed"):
        await engine_of(Words()).embed(["x"])


async def test_closing_stops_what_runs_and_refuses_what_comes(engine_of):
    model = Words("a", "b", gate=threading.Semaphore(1))
    engine = engine_of(model)
    chunks = engine.generate(ASKED, Sampling(max_tokens=9))
    await anext(chunks)
    await engine.aclose()
    assert model.stopped.is_set()
    with pytest.raises(Interrupted):
        await answer(engine)
    await chunks.aclose()
