"""`retrieve`: the passages of an `embed` step that are nearest to a query. `text` joins them, `json` lists {text, source, score}."""

from agenttask.api.errors import InvalidTask, ModelRejected
from agenttask.plugin.step import Collection, StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.handing_on import Room
from agenttask_steps.nearest import nearest
from agenttask_steps.rendered import RenderedRetrieve

_SCORE_DIGITS = 6
_SENDABLE_NUMBERS = 1 << 18
"""One MiB: packed in some milliseconds."""


class RetrieveStep:
    """Embeds the query with the collection's own model and ranks the passages."""

    schema = RenderedRetrieve

    async def run(self, config: RenderedRetrieve, context: StepContext) -> StepOutput:
        """Find them, best first."""
        collection = _collection(config.from_, context)
        answered = (await context.model(collection.model).embed([config.query])).vectors
        if len(answered) != 1 or len(answered[0]) != len(collection.vectors[0]):
            raise ModelRejected(
                f"model {collection.model!r} embedded the query as {[len(vector) for vector in answered]} dimensions, "
                f"the collection has {len(collection.vectors[0])}"
            )
        found = await context.threads.run(_kind(collection), nearest, answered[0], collection.vectors, config.top_k)
        room = Room("the passages have", "lower `topK`")
        passages = [(collection.passages[index], round(score, _SCORE_DIGITS)) for index, score in found]
        return StepOutput(
            text="\n\n".join(room.take(passage.text) for passage, _ in passages),
            json=[{"text": passage.text, "source": passage.source, "score": score} for passage, score in passages],
        )


def _kind(collection: Collection) -> WorkKind:
    """Small collections may go to another process; packing 20,000 vectors for it holds the loop up for a third of a second."""
    small = len(collection.vectors) * len(collection.vectors[0]) <= _SENDABLE_NUMBERS
    return WorkKind.PYTHON_CPU if small else WorkKind.NATIVE_CPU


def _collection(name: str, context: StepContext) -> Collection:
    output = context.outputs.get(name)
    if output is None:
        raise InvalidTask("retrieve.from", f"step {name!r} has not run before this one; name it in `needs`")
    if output.collection is None:
        raise InvalidTask("retrieve.from", f"step {name!r} is no `embed` step")
    return output.collection
