"""What an exceeded quota says, read as numbers (Kubernetes 1.35, plugin/pkg/admission/resourcequota: `exceeded quota`).

It names only what is exceeded, as `exceeded quota: few, requested: pods=1, used: pods=5, limited: pods=5`.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from agenttask.domain.quantity import amount
from agenttask.domain.quota import Refusal

_WORDS: Final = re.compile(r"exceeded quota: ([^\s,]+), requested: (\S+), used: (\S+), limited: (\S+)")
_ABOUT_ONE_POD: Final = re.compile(r'^pods "[^"]*" is forbidden: ')


def read(message: str) -> Refusal:
    """The refusal, without the name of the one pod: it holds for others too. What is no quota's, or not readable, has no numbers."""
    said = _ABOUT_ONE_POD.sub("", message)
    found = _WORDS.search(said)
    if found is None:
        return Refusal(message=said)
    try:
        requested, used, limited = (_amounts(text) for text in found.groups()[1:])
    except (InvalidOperation, ValueError):
        return Refusal(message=said, quota=found[1])
    left = {name: limited[name] - used.get(name, Decimal(0)) for name in requested if name in limited}
    return Refusal(message=said, quota=found[1], requested=requested, left=left)


def _amounts(text: str) -> dict[str, Decimal]:
    pairs = (part.rpartition("=") for part in text.split(","))
    return {name: amount(value) for name, _, value in pairs}
