"""A document cut into passages, for embedding: a pure function.

Paragraphs (what blank lines part) stay whole where they fit; small neighbours are put together, since a heading alone
finds nothing; long ones are cut where a reader would pause: line, sentence, word, and only then anywhere. Nothing but
white space is lost.
"""

import re
from collections.abc import Iterator

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_PAUSES = (re.compile(r"\n"), re.compile(r"(?<=[.!?。！？])\s"), re.compile(r"\s"))  # noqa: RUF001 - full stops of CJK scripts


def split(text: str, characters: int) -> list[str]:
    """The passages of `text`, each of at most `characters`, none empty."""
    passages: list[str] = []
    for paragraph in _paragraphs(text):
        for piece in _pieces(paragraph, characters):
            if passages and len(passages[-1]) + 2 + len(piece) <= characters:
                passages[-1] = f"{passages[-1]}\n\n{piece}"
            else:
                passages.append(piece)
    return passages


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in _BLANK_LINES.split(text.replace("\r\n", "\n")):
        if stripped := paragraph.strip():
            yield stripped


def _pieces(paragraph: str, characters: int) -> Iterator[str]:
    """The paragraph, cut at the last pause that fits."""
    start = 0
    while len(paragraph) - start > characters:
        end = _cut(paragraph, start, start + characters)
        if piece := paragraph[start:end].strip():
            yield piece
        start = end
    if rest := paragraph[start:].strip():
        yield rest


def _cut(paragraph: str, start: int, limit: int) -> int:
    """Where to cut between `start` and `limit`: behind the last pause of the best kind in the second half, else at `limit`."""
    half = (start + limit) // 2
    for pause in _PAUSES:
        ends = [found.end() for found in pause.finditer(paragraph, half, limit)]
        if ends:
            return ends[-1]
    return limit
