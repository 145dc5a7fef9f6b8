"""Passages by the model's own tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.step_context import OneThread, step_context

from agenttask.api.document import ModelDocument
from agenttask.api.errors import ModelRejected
from agenttask_llm.scripted import ScriptedClient
from agenttask_steps.embed import EmbedStep
from agenttask_steps.rendered import RenderedEmbed
from agenttask_steps.token_passages import split_by_tokens

TEXTS = st.lists(st.text(alphabet=st.sampled_from("ab cé.!?\n\r\t語"), max_size=600), max_size=4)


class Here:
    """A strategy that computes where it is asked."""

    async def run(self, kind, function, *args):
        return function(*args)


async def bytes_of(texts):
    """A tokenizer of bytes, with two that it adds to each text."""
    return [len(text.encode()) + 2 for text in texts]


@settings(deadline=None)
@given(TEXTS, st.integers(16, 64))
async def test_passages_fit_and_nothing_is_lost_but_white_space(texts, tokens):
    passages = await split_by_tokens(texts, tokens, bytes_of, Here())
    for text, pieces in zip(texts, passages, strict=True):
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(pieces)
        assert all(size <= tokens for size in await bytes_of(pieces))


async def test_passages_are_nearly_full():
    (passages,) = await split_by_tokens(["word " * 2000], 100, bytes_of, Here())
    assert min(len(passage) for passage in passages[:-1]) > 60


async def test_a_collection_takes_few_calls():
    calls = []

    async def count(texts):
        calls.append(len(texts))
        return await bytes_of(texts)

    await split_by_tokens(["語 " * 300, "word " * 3000], 64, count, OneThread())
    assert len(calls) < 10
    assert max(calls) <= 512


async def test_a_character_that_no_passage_can_be_shorter_than_ends_the_cutting():
    async def greedy(texts):
        return [100 * len(text) for text in texts]

    assert await split_by_tokens(["ab"], 16, greedy, Here()) == [["a", "b"]]


class Counting(ScriptedClient):
    """Counts words."""

    def __init__(self, error=None):
        super().__init__(ModelDocument(name="m", client="scripted", model="m"))
        self.error = error

    async def count_tokens(self, texts):
        if self.error is not None:
            raise self.error
        return [len(text.split()) for text in texts]


async def embedded(folder, client, **fields):
    log: list[str] = []
    (folder / "a.md").write_text("one two three four five " * 20)
    (folder / "b.md").write_text("six")
    config = RenderedEmbed(model="m", paths=("*.md",), **fields)
    output = await EmbedStep().run(config, step_context(folder, models={"m": client}, log=log.append))
    return output.collection.passages, log


async def test_files_are_split_by_the_models_own_tokens(tmp_path):
    passages, log = await embedded(tmp_path, Counting(), passage_tokens=16)
    assert all(len(passage.text.split()) <= 16 for passage in passages)
    assert " ".join(passage.text for passage in passages if passage.source == "a.md").split() == ("one two three four five " * 20).split()
    assert (passages[-1].source, log) == ("b.md", [])


@pytest.mark.parametrize(
    ("client", "logged"),
    [
        (ScriptedClient(ModelDocument(name="m", client="scripted", model="m")), []),
        (Counting(ModelRejected("no tokenizer")), ["tokens cannot be counted: no tokenizer"]),
    ],
    ids=["no-ability", "no-tokenizer"],
)
async def test_tokens_are_estimated_where_nobody_counts_and_the_log_says_so(tmp_path, client, logged):
    passages, log = await embedded(tmp_path, client, passage_tokens=16)
    assert max(len(passage.text) for passage in passages) <= 64
    assert log == [*logged, "model 'm' does not count tokens; 4 characters are taken for one"]


async def test_texts_of_a_like_length_go_together_and_vectors_come_in_order(tmp_path):
    client = Counting()
    texts = tuple(f"{'w ' * (number % 7)}{number}" for number in range(70))
    config = RenderedEmbed(model="m", texts=texts)
    output = await EmbedStep().run(config, step_context(tmp_path, models={"m": client}))
    asked = [len(text) for batch in client.embedded for text in batch]
    assert asked == sorted(asked, reverse=True)
    expected = [list(vector) for vector in (await client.embed(texts)).vectors]
    assert [list(vector) for vector in output.collection.vectors] == [pytest.approx(vector, abs=1e-6) for vector in expected]
