"""What a Kubernetes quantity amounts to, and which amounts a task may ask for.

Zero is no small limit: the kubelet takes a limit of 0, and an emptyDir of size 0, for none at all.
"""

from decimal import Decimal
from typing import Final

from agenttask.api.errors import InvalidTask
from agenttask.api.pod_options import ResourceList
from agenttask.api.steps import Quantity
from agenttask.api.task import AgentTaskSpec

MIN_MEMORY: Final = "32Mi"
"""Below this the node cannot even set the container up, and says so in events only."""
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
RESOURCES: Final = (("cpu", "cpu"), ("memory", "memory"), ("ephemeral_storage", "ephemeral-storage"))
"""The fields of a ResourceList, and how Kubernetes calls them."""


def amount(quantity: Quantity) -> Decimal:
    """The number that a Kubernetes quantity stands for."""
    if isinstance(quantity, int):
        return Decimal(quantity)
    for length in (2, 1):
        factor = _SUFFIXES.get(quantity[-length:])
        if factor is not None:
            return Decimal(quantity[:-length]) * factor
    return Decimal(quantity)


def check_amounts(spec: AgentTaskSpec) -> None:
    """Refuse limits that limit nothing, a memory limit that no container fits in, and requests above their limits.

    Raises:
        InvalidTask: with the field's path.
    """
    _positive("spec.workspace.sizeLimit", spec.workspace.size_limit)
    for index, volume in enumerate(spec.pod.volumes):
        if volume.empty_dir is not None:
            _positive(f"spec.pod.volumes[{index}].emptyDir.sizeLimit", volume.empty_dir.size_limit)
    resources = spec.pod.resources
    for field, name in RESOURCES:
        where = f"spec.pod.resources.limits.{name}"
        limit, request = _get(resources.limits, field), _get(resources.requests, field)
        if limit is not None:
            _positive(where, limit)
            if request is not None and amount(request) > amount(limit):
                raise InvalidTask(f"spec.pod.resources.requests.{name}", f"{request!r} is more than the limit {limit!r}; raise the limit")
    memory = resources.limits.memory
    if memory is not None and amount(memory) < amount(MIN_MEMORY):
        raise InvalidTask("spec.pod.resources.limits.memory", f"{memory!r} is too little for any container; give at least {MIN_MEMORY}")


def _positive(field: str, quantity: Quantity) -> None:
    if amount(quantity) <= 0:
        raise InvalidTask(field, f"{quantity!r} would mean no limit at all; give an amount above 0, or leave it out for the default")


def _get(amounts: ResourceList, field: str) -> Quantity | None:
    value: Quantity | None = getattr(amounts, field)
    return value
