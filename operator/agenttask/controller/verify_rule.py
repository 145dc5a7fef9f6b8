"""How the last look at a pod refuses: in one sentence, with the field at fault."""

from collections.abc import Iterable

from agenttask.api.errors import PodRejected
from agenttask.domain.nearest import quoted


def only(where: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse what is not among the allowed.

    Raises:
        PodRejected: with the extra names.
    """
    extra = sorted(set(given) - set(allowed))
    require(f"{where}: {', '.join(map(quoted, extra))}", not extra)


def require(what: str, holds: object) -> None:
    """Refuse where a rule does not hold.

    Raises:
        PodRejected: with what is at fault.
    """
    if not holds:
        raise PodRejected(f"the pod leaves the rules for task pods: {what}")
