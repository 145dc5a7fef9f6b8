"""`chat`, `embed` and `retrieve`, over the scripted client."""

import asyncio

import pytest
from msgspec import structs
from tests.fakes.step_context import step_context

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable, OutputTooLarge, StepFailed
from agenttask.plugin.llm import Chunk, Embeddings, Usage
from agenttask.plugin.step import StepOutput
from agenttask_llm.scripted import ScriptedClient
from agenttask_steps import embed
from agenttask_steps.chat import ChatStep
from agenttask_steps.embed import EmbedStep
from agenttask_steps.rendered import RenderedChat, RenderedEmbed, RenderedRetrieve
from agenttask_steps.retrieve import RetrieveStep


def scripted(**parameters):
    return ScriptedClient(ModelDocument(name="m", client="scripted", model="m", parameters=parameters))


def lent(folder, client, **more):
    return step_context(folder, models={"m": client}, **more)


class Odd(ScriptedClient):
    """Answers as told, right or wrong."""

    def __init__(self, *, vectors=(), endless=False):
        super().__init__(ModelDocument(name="m", client="scripted", model="m"))
        self._vectors = list(vectors)
        self._endless = endless
        self.closed = False

    async def embed(self, texts):
        return Embeddings(vectors=self._vectors.pop(0), usage=Usage(calls=1))

    async def stream(self, request):
        try:
            while self._endless:
                yield Chunk(text="x" * 65536)
                await asyncio.sleep(0)
            await asyncio.sleep(3600)
        finally:
            self.closed = True


async def test_an_answer_is_the_text(tmp_path):
    output = await ChatStep().run(RenderedChat(model="m", prompt="Hello there"), lent(tmp_path, scripted(reply="You said: {prompt}")))
    assert output.text == "You said: Hello there"


async def test_system_and_prompt_reach_the_model(tmp_path):
    client = scripted(reply="x")
    await ChatStep().run(RenderedChat(model="m", system="Be terse.", prompt="Hi"), lent(tmp_path, client))
    assert [(message.role, message.content) for message in client.requests[0].messages] == [("system", "Be terse."), ("user", "Hi")]


async def test_an_answer_cut_at_its_length_is_logged(tmp_path):
    log: list[str] = []
    output = await ChatStep().run(
        RenderedChat(model="m", prompt="x", max_tokens=2), lent(tmp_path, scripted(reply="one two three"), log=log.append)
    )
    assert (output.text, log) == ("one two", ["the answer was cut at its length; maxTokens is 2"])


async def test_an_endless_answer_ends_at_the_bound_and_closes_the_stream(tmp_path):
    client = Odd(endless=True)
    with pytest.raises(OutputTooLarge, match=str(MAX_STEP_TEXT_BYTES)):
        await ChatStep().run(RenderedChat(model="m", prompt="x"), lent(tmp_path, client))
    assert client.closed


async def test_a_time_out_closes_the_stream(tmp_path):
    client = Odd()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ChatStep().run(RenderedChat(model="m", prompt="x"), lent(tmp_path, client))
    assert client.closed


async def test_a_model_that_fails_fails_the_step(tmp_path):
    with pytest.raises(ModelUnavailable):
        await ChatStep().run(RenderedChat(model="m", prompt="x"), lent(tmp_path, scripted(error="unavailable")))


async def test_files_and_texts_become_a_collection(tmp_path):
    (tmp_path / "a.md").write_text("first " * 12 + "\n\n" + "second " * 12)
    (tmp_path / "b.md").write_text("\n \n")
    config = RenderedEmbed(model="m", texts=("a text", " "), paths=("*.md", "a.md"), passage_characters=80)
    output = await EmbedStep().run(config, lent(tmp_path, scripted()))
    assert output.text == "4 passages of 2 files and 1 text, 64 dimensions"
    assert output.json == {"passages": 4, "files": 2, "texts": 1, "dimensions": 64}
    assert [passage.source for passage in output.collection.passages] == ["texts[0]", "a.md", "a.md", "a.md"]
    assert len(output.collection.vectors) == 4


async def test_many_passages_go_in_batches(tmp_path):
    client = scripted()
    await EmbedStep().run(RenderedEmbed(model="m", texts=tuple(f"text {n}" for n in range(70))), lent(tmp_path, client))
    assert [len(batch) for batch in client.embedded] == [32, 32, 6]


async def test_nothing_to_embed_fails_the_step(tmp_path):
    with pytest.raises(StepFailed, match="nothing to embed"):
        await EmbedStep().run(RenderedEmbed(model="m", texts=("",)), lent(tmp_path, scripted()))


async def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "MAX_COLLECTION_CHARACTERS", 10)
    (tmp_path / "a.md").write_text("more than ten")
    with pytest.raises(OutputTooLarge, match="embed fewer"):
        await EmbedStep().run(RenderedEmbed(model="m", paths=("a.md",)), lent(tmp_path, scripted()))


@pytest.mark.parametrize(
    "vectors",
    [((1.0, 0.0),), ((1.0, 0.0), (1.0,)), ((), ())],
    ids=["too-few", "different-dimensions", "no-dimensions"],
)
async def test_vectors_that_make_no_sense_are_rejected(tmp_path, vectors):
    with pytest.raises(ModelRejected):
        await EmbedStep().run(RenderedEmbed(model="m", texts=("a", "b")), lent(tmp_path, Odd(vectors=[vectors])))


async def collection(folder, *texts):
    return await EmbedStep().run(RenderedEmbed(model="m", texts=texts), lent(folder, scripted()))


async def test_the_nearest_passages_are_retrieved_best_first(tmp_path):
    docs = await collection(tmp_path, "the cat sat on the mat", "bread is baked in an oven", "a cat on a mat sat still")
    context = lent(tmp_path, scripted(), outputs={"docs": docs})
    output = await RetrieveStep().run(RenderedRetrieve(from_="docs", query="where did the cat sat", top_k=2), context)
    assert output.text == "the cat sat on the mat\n\na cat on a mat sat still"
    assert [item["source"] for item in output.json] == ["texts[0]", "texts[2]"]
    assert output.json[0]["score"] >= output.json[1]["score"] > 0


async def test_fewer_than_top_k_are_all(tmp_path):
    docs = await collection(tmp_path, "only one")
    output = await RetrieveStep().run(
        RenderedRetrieve(from_="docs", query="one", top_k=9), lent(tmp_path, scripted(), outputs={"docs": docs})
    )
    assert output.text == "only one"


async def test_a_query_of_other_dimensions_is_rejected(tmp_path):
    docs = await collection(tmp_path, "a")
    with pytest.raises(ModelRejected, match="64"):
        await RetrieveStep().run(
            RenderedRetrieve(from_="docs", query="a"), lent(tmp_path, Odd(vectors=[((1.0, 2.0),)]), outputs={"docs": docs})
        )


async def test_a_step_that_embeds_nothing_cannot_be_searched(tmp_path):
    with pytest.raises(InvalidTask, match="'docs' is no `embed` step"):
        await RetrieveStep().run(
            RenderedRetrieve(from_="docs", query="a"), lent(tmp_path, scripted(), outputs={"docs": StepOutput(text="x")})
        )
    with pytest.raises(InvalidTask, match="'docs' has not run"):
        await RetrieveStep().run(RenderedRetrieve(from_="docs", query="a"), lent(tmp_path, scripted()))


async def test_passages_that_are_too_large_together_are_refused(tmp_path):
    docs = await collection(tmp_path, "a" * (MAX_STEP_TEXT_BYTES // 2 + 1), "b")
    big = structs.replace(docs.collection, passages=(docs.collection.passages[0],) * 2)
    outputs = {"docs": structs.replace(docs, collection=big)}
    with pytest.raises(OutputTooLarge, match="lower `topK`"):
        await RetrieveStep().run(RenderedRetrieve(from_="docs", query="a"), lent(tmp_path, scripted(), outputs=outputs))
