"""Documents cut into passages of so many tokens, as the model that embeds them counts.

Cut by characters first, as many as a sample says that the tokens take, with some room; counted; and what is still too long is
cut again. That takes a few calls for a whole collection, where cutting at the very token would take one a passage.
"""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct, structs

from agenttask.plugin.threading import ThreadingStrategy, WorkKind
from agenttask_steps.passages import split

Count = Callable[[Sequence[str]], Awaitable[Sequence[int]]]
"""How many tokens each text has."""

ESTIMATED_CHARACTERS = 4
"""Of a token, where nobody can count: what tokenizers need for English; other scripts take fewer."""
_SAMPLE_CHARACTERS = 8192
_ROOM = 0.85
"""Of the average: most passages then fit at once."""
_COUNTED_AT_ONCE = 512


async def split_by_tokens(texts: Sequence[str], tokens: int, count: Count, threads: ThreadingStrategy) -> list[list[str]]:
    """The passages of each text, each of at most `tokens`, none empty."""
    characters = int(await _characters_of_a_token(texts, count) * tokens * _ROOM)
    waiting = [_Piece(key=(index,), text=text, characters=characters) for index, text in enumerate(texts)]
    found: list[_Piece] = []
    while waiting:
        cut: list[_Piece] = []
        for piece in waiting:
            parts = await threads.run(WorkKind.PYTHON_CPU, split, piece.text, max(1, piece.characters))
            cut += [_Piece(key=(*piece.key, place), text=part) for place, part in enumerate(parts)]
        waiting = []
        for piece, size in zip(cut, await _counted([piece.text for piece in cut], count), strict=True):
            if size <= tokens or len(piece.text) == 1:
                found.append(piece)
            else:
                waiting.append(structs.replace(piece, characters=int(len(piece.text) * tokens / size * _ROOM)))
    passages: list[list[str]] = [[] for _ in texts]
    for piece in sorted(found, key=lambda piece: piece.key):
        passages[piece.key[0]].append(piece.text)
    return passages


class _Piece(Struct, frozen=True, kw_only=True):
    """A part of a text; `key` sorts the parts as they stood there."""

    key: tuple[int, ...]
    text: str
    characters: int = 0
    """How long its own parts may be."""


async def _characters_of_a_token(texts: Sequence[str], count: Count) -> float:
    """By a sample: the beginning of the longest text."""
    sample = max(texts, key=len, default="")[:_SAMPLE_CHARACTERS]
    if not sample.strip():
        return ESTIMATED_CHARACTERS
    (tokens,) = await count([sample])
    return len(sample) / max(1, tokens)


async def _counted(texts: Sequence[str], count: Count) -> list[int]:
    sizes: list[int] = []
    for start in range(0, len(texts), _COUNTED_AT_ONCE):
        sizes += await count(texts[start : start + _COUNTED_AT_ONCE])
    return sizes
