"""`auto`: the first wished class that a task fits on now."""

from collections.abc import Sequence

from agenttask.plugin.device import Choice, DeviceRequest, Stock
from agenttask_devices.verdict import judge, wished


class Auto:
    """Takes the wishes in their order, whatever their kind."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        """All wished classes, in order of wish."""
        return [judge(stock) for stock in wished(request, inventory)]
