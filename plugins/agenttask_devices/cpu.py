"""`cpu`: never a GPU, also where one is free; for tasks that must leave it to others."""

from collections.abc import Sequence

from agenttask.plugin.device import Choice, DeviceRequest, Stock
from agenttask_devices.kind import rank_kind


class Cpu:
    """Takes wished classes of kind `cpu` only."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """CPU classes in order of wish; the others are listed and passed over."""
        return rank_kind("cpu", "cpu", request, inventory)
