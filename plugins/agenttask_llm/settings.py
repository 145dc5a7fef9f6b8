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


def one_of(model: ModelDocument, name: str, known: Collection[str], default: str) -> str:
    """A parameter that is one of these words.

    Raises:
        InvalidTask: it is none.
    """
    value = model.parameters.get(name, default)
    if value not in known:
        raise InvalidTask(field_of(model, f"parameters[{name!r}]"), f"{value!r} is none of {', '.join(known)}")
    return value


def checked_credential(model: ModelDocument, credential: str | None) -> str | None:
    """The credential as a header takes it: Secrets made from files end with a line break.

    Raises:
        InvalidTask: no header takes it.
    """
    stripped = credential.strip() if credential else None
    if stripped and not (stripped.isascii() and stripped.isprintable()):
        raise InvalidTask(
            field_of(model, "credentials"), "the credential has characters that no HTTP header takes; look at the Secret's key"
        )
    return stripped
