"""The tables of `docs/tracing.md`, rendered from the names in code; a test holds the two equal.

`python -m agenttask.telemetry.reference docs/tracing.md` writes them between the two marks of the file.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from agenttask.telemetry.names import SPANS, Attribute

BEGIN = "<!-- generated: python -m agenttask.telemetry.reference docs/tracing.md -->"
END = "<!-- end of generated -->"


def tables() -> str:
    """Spans, then attributes, in Markdown."""
    spans = [
        (_code(span.name), span.kind, span.parent if span.parent.startswith("none") else _code(span.parent), span.by, span.covers)
        for span in SPANS
    ]
    attributes = [
        (_code(attribute), attribute.describe(), ", ".join(_code(span.name) for span in SPANS if attribute in span.attributes))
        for attribute in Attribute
    ]
    return "\n".join(
        [
            *_table(("span", "kind", "parent", "sent by", "covers"), spans),
            "",
            *_table(("attribute", "what it says", "on"), attributes),
        ]
    )


def with_tables(document: str) -> str:
    """The document with the text between its marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(titles), _row(["---"] * len(titles)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text}`"


def main(arguments: Sequence[str]) -> None:
    """Write the tables into the file that is named."""
    path = Path(arguments[0])
    path.write_text(with_tables(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
