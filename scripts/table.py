"""Plain tables for the terminal: columns as wide as their longest cell, long cells wrapped."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters; its own line breaks stay."""
    return [piece for line in text.splitlines() for piece in (textwrap.wrap(line, width) or [""])]


def columns(rows: Sequence[Sequence[str]], *, widths: Mapping[int, int]) -> Iterator[str]:
    """The lines of a table; `widths` bounds the columns (by number) whose cells may be long."""
    cells = [[wrap(cell, widths.get(number, 200)) for number, cell in enumerate(row)] for row in rows]
    width = [max((len(line) for row in cells for line in row[number]), default=0) for number in range(len(rows[0]))]
    for row in cells:
        for lines in zip_longest(*row, fillvalue=""):
            yield "  ".join(line.ljust(width[number]) for number, line in enumerate(lines)).rstrip()
