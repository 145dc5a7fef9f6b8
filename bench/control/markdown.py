"""Tables as Markdown."""

from collections.abc import Iterable, Sequence

Cells = Sequence[object]


def markdown(head: Cells, rows: Iterable[Cells]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines)
