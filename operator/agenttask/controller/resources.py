"""What a pod asks for: the task's wishes, the installation's defaults, and the device class's extended resources.

Requests and limits are always set. A wish on one side moves the default of the other: a request above the default
limit raises it, a limit below the default request lowers it.
"""

from decimal import Decimal
from typing import Final

from agenttask.api.steps import Wire
from agenttask.api.task import AgentTaskSpec, ResourceList
from agenttask.controller.installation import TaskDefaults
from agenttask.domain.device import DeviceClass

_SUFFIXES: Final = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_NAMES: Final = (("cpu", "cpu"), ("memory", "memory"), ("ephemeral_storage", "ephemeral-storage"))


class Requirements(Wire, frozen=True, kw_only=True):
    """v1.ResourceRequirements of the container."""

    requests: dict[str, str]
    limits: dict[str, str]


def amount(quantity: str) -> Decimal:
    """The number that a Kubernetes quantity stands for."""
    for length in (2, 1):
        factor = _SUFFIXES.get(quantity[-length:])
        if factor is not None:
            return Decimal(quantity[:-length]) * factor
    return Decimal(quantity)


def requirements(spec: AgentTaskSpec, defaults: TaskDefaults, device: DeviceClass | None) -> Requirements:
    """Requests and limits of the task's container."""
    wished = spec.pod.resources
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for field, name in _NAMES:
        request, limit = _pair(
            _get(wished.requests, field),
            _get(wished.limits, field),
            _get(defaults.resources.requests, field),
            _storage(spec, defaults) if name == "ephemeral-storage" else _get(defaults.resources.limits, field),
        )
        if request is not None:
            requests[name] = request
        if limit is not None:
            limits[name] = limit
    extended = {name: str(count) for name, count in device.resources.items() if count > 0} if device is not None else {}
    return Requirements(requests=requests | extended, limits=limits | extended)


def _pair(request: str | None, limit: str | None, default_request: str | None, default_limit: str | None) -> tuple[str | None, str | None]:
    if limit is None:
        limit = default_limit
        if request is not None and limit is not None:
            limit = max(request, limit, key=amount)
    if request is None:
        request = default_request if default_request is not None else limit
        if request is not None and limit is not None:
            request = min(request, limit, key=amount)
    return request, limit


def _storage(spec: AgentTaskSpec, defaults: TaskDefaults) -> str | None:
    """The default limit of ephemeral storage: on top of the volumes, which count towards it."""
    own = defaults.resources.limits.ephemeral_storage
    if own is None:
        return None
    return str(int(amount(own) + amount(spec.workspace.size_limit) + amount(defaults.scratch)))


def _get(amounts: ResourceList, field: str) -> str | None:
    value: str | None = getattr(amounts, field)
    return value
