"""`embed`: texts and files as a collection of vectors for `retrieve`. `text` tells how many; the vectors stay in the runner."""

from array import array
from collections.abc import Mapping, Sequence

from agenttask.api.errors import ModelRejected, OutputTooLarge, StepFailed
from agenttask.plugin.llm import CountsTokens, LLMClient
from agenttask.plugin.step import Collection, Passage, StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.handing_on import name_of
from agenttask_steps.passages import split
from agenttask_steps.rendered import RenderedEmbed
from agenttask_steps.token_passages import ESTIMATED_CHARACTERS, split_by_tokens

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
        files = await _files(config, context)
        passages = (*texts, *await _passages(files, config, context))
        if not passages:
            raise StepFailed("there is nothing to embed: texts and files are empty; give `texts`, or `paths` of files with text")
        vectors = await _vectors(context.model(config.model), [passage.text for passage in passages])
        parts = [f"{len(files)} file{'' if len(files) == 1 else 's'}"] if files else []
        parts += [f"{len(texts)} text{'' if len(texts) == 1 else 's'}"] if texts else []
        total = f"{len(passages)} passage{'' if len(passages) == 1 else 's'}"
        return StepOutput(
            text=f"{total} of {' and '.join(parts)}, {len(vectors[0])} dimensions",
            json={"passages": len(passages), "files": len(files), "texts": len(texts), "dimensions": len(vectors[0])},
            collection=Collection(model=config.model, passages=passages, vectors=vectors),
        )


async def _files(config: RenderedEmbed, context: StepContext) -> dict[str, str]:
    """The files' contents by their names."""
    files: dict[str, str] = {}
    characters = 0
    for pattern in config.paths:
        for path in await context.files.glob(pattern):
            name = name_of(path, context.workspace)
            if name not in files:
                files[name] = await context.files.read_text(path)
                characters += len(files[name])
            if characters > MAX_COLLECTION_CHARACTERS:
                raise OutputTooLarge(f"the files have more than {MAX_COLLECTION_CHARACTERS} characters in all; embed fewer in one step")
    return files


async def _passages(files: Mapping[str, str], config: RenderedEmbed, context: StepContext) -> list[Passage]:
    """The passages of all files, by tokens where they are asked for and the model can count them."""
    if not files:
        return []
    characters = config.passage_characters
    if config.passage_tokens is not None:
        client = context.model(config.model)
        if isinstance(client, CountsTokens):
            try:
                split_texts = await split_by_tokens(list(files.values()), config.passage_tokens, client.count_tokens, context.threads)
            except ModelRejected as error:
                context.log(f"tokens cannot be counted: {error}")
            else:
                return [Passage(text=piece, source=name) for name, pieces in zip(files, split_texts, strict=True) for piece in pieces]
        context.log(f"model {config.model!r} does not count tokens; {ESTIMATED_CHARACTERS} characters are taken for one")
        characters = config.passage_tokens * ESTIMATED_CHARACTERS
    passages: list[Passage] = []
    for name, text in files.items():
        pieces = await context.threads.run(WorkKind.PYTHON_CPU, split, text, characters)
        passages += [Passage(text=piece, source=name) for piece in pieces]
    return passages


async def _vectors(client: LLMClient, texts: Sequence[str]) -> tuple[Sequence[float], ...]:
    """One vector a text, as packed floats: a list of Python floats would take eight times the memory.

    Texts of a like length go together, the longest first: a batch is padded to its longest, and what does not fit into memory
    fails at once.
    """
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    vectors: dict[int, array[float]] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        found = (await client.embed([texts[index] for index in batch])).vectors
        if len(found) != len(batch):
            raise ModelRejected(f"the model gave {len(found)} vectors for {len(batch)} texts")
        vectors |= {index: array("f", vector) for index, vector in zip(batch, found, strict=True)}
    sizes = {len(vector) for vector in vectors.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise ModelRejected(f"the model gave vectors of different or no dimensions: {sorted(sizes)}")
    return tuple(vectors[index] for index in range(len(texts)))
