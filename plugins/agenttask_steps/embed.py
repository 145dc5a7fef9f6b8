"""`embed`: texts and files as a collection of vectors for `retrieve`. `text` tells how many; the vectors stay in the runner."""

from array import array
from collections.abc import Sequence

from agenttask.api.errors import ModelRejected, OutputTooLarge, StepFailed
from agenttask.plugin.llm import LLMClient
from agenttask.plugin.step import Collection, Passage, StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.handing_on import name_of
from agenttask_steps.passages import split
from agenttask_steps.rendered import RenderedEmbed

BATCH = 32
"""Texts in one call: what endpoints accept everywhere, and where a CPU gains nothing from more."""
MAX_COLLECTION_CHARACTERS = 16 << 20
"""Some 20,000 passages of the usual size: 30 MB of vectors, and a second of pure Python for each query."""


class EmbedStep:
    """Embeds texts as they are, and files passage by passage."""

    schema = RenderedEmbed

    async def run(self, config: RenderedEmbed, context: StepContext) -> StepOutput:
        """Read, split, embed batch by batch."""
        texts = [Passage(text=text, source=f"texts[{index}]") for index, text in enumerate(config.texts) if text.strip()]
        files, names = await _files(config, context)
        passages = (*texts, *files)
        if not passages:
            raise StepFailed("there is nothing to embed: texts and files are empty; give `texts`, or `paths` of files with text")
        vectors = await _vectors(context.model(config.model), [passage.text for passage in passages])
        parts = [f"{len(names)} file{'' if len(names) == 1 else 's'}"] if names else []
        parts += [f"{len(texts)} text{'' if len(texts) == 1 else 's'}"] if texts else []
        total = f"{len(passages)} passage{'' if len(passages) == 1 else 's'}"
        return StepOutput(
            text=f"{total} of {' and '.join(parts)}, {len(vectors[0])} dimensions",
            json={"passages": len(passages), "files": len(names), "texts": len(texts), "dimensions": len(vectors[0])},
            collection=Collection(model=config.model, passages=passages, vectors=vectors),
        )


async def _files(config: RenderedEmbed, context: StepContext) -> tuple[list[Passage], set[str]]:
    """The passages of all files, and the files' names."""
    passages: list[Passage] = []
    names: set[str] = set()
    characters = 0
    for pattern in config.paths:
        for path in await context.files.glob(pattern):
            name = name_of(path, context.workspace)
            if name in names:
                continue
            names.add(name)
            text = await context.files.read_text(path)
            characters += len(text)
            if characters > MAX_COLLECTION_CHARACTERS:
                raise OutputTooLarge(f"the files have more than {MAX_COLLECTION_CHARACTERS} characters in all; embed fewer in one step")
            pieces = await context.threads.run(WorkKind.PYTHON_CPU, split, text, config.passage_characters)
            passages += [Passage(text=piece, source=name) for piece in pieces]
    return passages, names


async def _vectors(client: LLMClient, texts: Sequence[str]) -> tuple[Sequence[float], ...]:
    """One vector a text, as packed floats: a list of Python floats would take eight times the memory."""
    vectors: list[array[float]] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        found = (await client.embed(batch)).vectors
        if len(found) != len(batch):
            raise ModelRejected(f"the model gave {len(found)} vectors for {len(batch)} texts")
        vectors += [array("f", vector) for vector in found]
    sizes = {len(vector) for vector in vectors}
    if len(sizes) != 1 or 0 in sizes:
        raise ModelRejected(f"the model gave vectors of different or no dimensions: {sorted(sizes)}")
    return tuple(vectors)
