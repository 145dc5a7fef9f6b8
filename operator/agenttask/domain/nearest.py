"""How a message helps with a name that is not known: the nearest one, and those there are, cut to a readable length."""

import difflib
from collections.abc import Collection

from agenttask.api.report import shorten

SHOWN_NAMES = 12
SHOWN_CHARACTERS = 80


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name[:SHOWN_CHARACTERS], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(known: Collection[str]) -> str:
    """The known names for a message: sorted, the first dozen."""
    names = sorted(known)
    shown = ", ".join(shorten(name, SHOWN_CHARACTERS) for name in names[:SHOWN_NAMES])
    rest = len(names) - SHOWN_NAMES
    return (f"{shown} and {rest} more" if rest > 0 else shown) or "none"


def quoted(name: object) -> str:
    """A name as a message shows it: with quotes, and never longer than a line."""
    return shorten(repr(name), SHOWN_CHARACTERS)
