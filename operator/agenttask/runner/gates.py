"""Feature gates, as Kubernetes has them: `FEATURE_GATES=HTTP2=false` takes a risky part back without a new image."""

from collections.abc import Mapping

from agenttask.api.errors import InvalidTask
from agenttask.domain.nearest import did_you_mean, listed, quoted

VARIABLE = "FEATURE_GATES"
GATES: Mapping[str, bool] = {"HTTP2": True}
"""Each with its default."""
_VALUES = {"true": True, "false": False}


def read_gates(raw: str) -> Mapping[str, bool]:
    """All gates, with those that `raw` sets; later ones win.

    Raises:
        InvalidTask: a gate that is not known, or a value that is neither true nor false.
    """
    gates = dict(GATES)
    for part in filter(None, (part.strip() for part in raw.split(","))):
        name, _equals, value = part.partition("=")
        if name not in GATES:
            raise InvalidTask(VARIABLE, f"there is no feature gate {quoted(name)}; there are: {listed(GATES)}{did_you_mean(name, GATES)}")
        if value.lower() not in _VALUES:
            raise InvalidTask(VARIABLE, f"gate {name} is {quoted(value)}; it can be true or false, as {name}=false")
        gates[name] = _VALUES[value.lower()]
    return gates
