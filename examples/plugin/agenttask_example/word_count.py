"""`word-count`: counts the words, lines and characters of a text.

A step kind has a schema (a msgspec type: unknown fields are refused with their path) and `run`, which gets the
config with its templates rendered.
"""

from typing import Annotated

from msgspec import Meta, Struct

from agenttask.api.errors import StepFailed
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import WorkKind


class WordCountConfig(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What stands under `with:`."""

    text: str
    at_least: Annotated[int, Meta(ge=0)] = 0


class WordCount:
    """`text` is the number of words, `json` has words, lines and characters."""

    schema = WordCountConfig

    async def run(self, config: WordCountConfig, context: StepContext) -> StepOutput:
        """Count on a thread, so that a long text does not hold up the other steps."""
        counts = await context.threads.run(WorkKind.PYTHON_CPU, count, config.text)
        context.log(f"{counts['words']} words")
        if counts["words"] < config.at_least:
            raise StepFailed(f"the text has {counts['words']} words, atLeast asks for {config.at_least}")
        return StepOutput(text=str(counts["words"]), json=counts)


def count(text: str) -> dict[str, int]:
    """Words, lines and characters; a function of its module, so that a strategy with processes can run it too."""
    return {"words": len(text.split()), "lines": len(text.splitlines()), "characters": len(text)}
