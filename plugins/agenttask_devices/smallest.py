"""`smallest`: the least that is enough, so that large GPUs stay free for those who need them.

A class without a GPU is less than any with one, unless the task says in `device.gpu` that it needs one. Among GPUs the
one with the least memory comes first, then the one that gives fewer; a memory that is not known counts as the largest.
An endpoint elsewhere takes nothing of the cluster and costs money: it comes last.
"""

from collections.abc import Sequence
from decimal import Decimal

from agenttask.plugin.device import Choice, DeviceClass, DeviceRequest, Stock, amount
from agenttask_devices.verdict import judge, wished


class Smallest:
    """Orders the wished classes by size; those of one size stay in order of wish."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """All wished classes, the smallest first."""
        kinds = ("cuda", "cpu", "remote") if request.gpu is not None else ("cpu", "cuda", "remote")

        wanted = request.gpu.count if request.gpu is not None else 1

        def size(one: DeviceClass) -> tuple[int, bool, Decimal, int]:
            gpus = max((wanted, *one.resources.values()))
            memory = None if one.gpu_memory is None else amount(one.gpu_memory) * gpus
            return kinds.index(one.kind), memory is None, memory or Decimal(0), gpus

        return [judge(stock) for stock in sorted(wished(request, inventory), key=lambda stock: size(stock.class_))]
