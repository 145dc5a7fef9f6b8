"""How much of a device class one task takes, and why a class can never serve it: `device.gpu` against what the class says.

A unit is what the class's `resources` (or one claim) give; several units multiply them. What a class does not say is
unknown and rules nothing out: a wrong guess would leave the task waiting for ever.
"""

from decimal import Decimal
from typing import Final

import msgspec

from agenttask.api.task import Gpu
from agenttask.domain.device import DeviceClass
from agenttask.domain.quantity import amount

GPU_KIND: Final = "cuda"


def gpus(one: DeviceClass) -> int:
    """How many GPUs the class's resources are: the largest amount of them; a claim is one."""
    return max((1, *one.resources.values()))


def units(one: DeviceClass, gpu: Gpu | None) -> int:
    """How many units the wished GPUs make, rounded up; one where none are wished."""
    return -(-gpu.count // gpus(one)) if gpu is not None and one.kind == GPU_KIND else 1


def sized(one: DeviceClass, gpu: Gpu | None) -> DeviceClass:
    """The class with the resources and the cost of all units, where it gives so many."""
    many = units(one, gpu)
    if many == 1 or too_small(one, gpu) is not None:
        return one
    resources = {name: count * many for name, count in one.resources.items()}
    return msgspec.structs.replace(one, resources=resources, cost=None if one.cost is None else str(Decimal(one.cost) * many))


def too_small(one: DeviceClass, gpu: Gpu | None) -> str | None:
    """Why the class can never give these GPUs, or None; the same of a class and of what `sized` makes of it."""
    if gpu is None or one.kind != GPU_KIND:
        return None
    most = max(one.max_count or 1, gpus(one))
    if units(one, gpu) * gpus(one) > most:
        return f"gives a task at most {most} GPU{'s' if most > 1 else ''}, device.gpu.count is {gpu.count}"
    if gpu.memory is not None and one.gpu_memory is not None and amount(one.gpu_memory) < amount(gpu.memory):
        return f"has {one.gpu_memory} a GPU, device.gpu.memory is {gpu.memory}"
    return None
