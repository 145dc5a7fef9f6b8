"""What a client needs from its AgentModel, checked with the field's name in the error."""

from collections.abc import Collection

from agenttask.api.document import ModelDocument
from agenttask.api.errors import InvalidTask


def field_of(model: ModelDocument, field: str) -> str:
    """How errors name a field."""
    return f"AgentModel {model.name!r} spec.{field}"


def known_parameters(model: ModelDocument, known: Collection[str]) -> dict[str, str]:
    """The parameters, all of them the client's own.

    Raises:
        InvalidTask: one is not.
    """
    for name in model.parameters:
        if name not in known:
            raise InvalidTask(
                field_of(model, f"parameters[{name!r}]"),
                f"client {model.client!r} has no such parameter; it has: {', '.join(sorted(known)) or 'none'}",
            )
    return model.parameters


def number(model: ModelDocument, name: str, default: float, *, largest: float) -> float:
    """A parameter that is a number from 0 to `largest`.

    Raises:
        InvalidTask: it is none.
    """
    raw = model.parameters.get(name)
    if raw is None:
        return default
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value <= largest:
        raise InvalidTask(field_of(model, f"parameters[{name!r}]"), f"{raw!r} is no number from 0 to {largest:g}")
    return value
