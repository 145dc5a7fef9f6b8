"""`gpu`: never a CPU; waits while no GPU is free, for tasks that a CPU would run for days."""

from collections.abc import Sequence

from agenttask.plugin.device import Choice, DeviceRequest, Stock
from agenttask_devices.kind import rank_kind


class Gpu:
    """Takes wished classes of kind `cuda` only."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """GPU classes in order of wish; the others are listed and passed over."""
        return rank_kind("gpu", "cuda", request, inventory)
