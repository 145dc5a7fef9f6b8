"""`when` and `forEach`: one expression each, whose native value has to be a boolean or a list."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agenttask.api.errors import OutputTooLarge, StepFailed
from agenttask.api.report import shorten
from agenttask.domain.bounded import kind
from agenttask.domain.rendering import evaluate

MAX_ITEMS: Final = 10_000
"""Of one `forEach`."""
_SHOWN: Final = 80


def condition(source: str, values: Mapping[str, Any], *, field: str) -> bool:
    """What a `when` says.

    Raises:
        StepFailed: its value is no boolean, or cannot be found out.
    """
    value = evaluate(source, values, field=field)
    if not isinstance(value, bool):
        shown = shorten(repr(value), _SHOWN)
        raise StepFailed(f"{field}: true or false is needed, this gives {kind(value)} ({shown}); compare it, as in {{{{ a == 'b' }}}}")
    return value


def items(source: str, values: Mapping[str, Any], *, field: str) -> Sequence[Any]:
    """What a `forEach` goes through.

    Raises:
        StepFailed: its value is no list, or cannot be found out.
        OutputTooLarge: it has more items than one step may go through.
    """
    value = evaluate(source, values, field=field)
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise StepFailed(f"{field}: a list is needed, this gives {kind(value)} ({shorten(repr(value), _SHOWN)})")
    if len(value) > MAX_ITEMS:
        raise OutputTooLarge(
            f"{field}: the list has {len(value)} items, a step goes through at most {MAX_ITEMS}; split it over several tasks"
        )
    return value
