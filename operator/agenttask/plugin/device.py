"""Device strategies: which device class a task's pod gets, and which torch device a model gets in the pod.

The same `rank` answers both: in the controller the inventory is the cluster's device classes, in the runner it is what
torch sees. A strategy is pure: no I/O, no clock.
"""

from collections.abc import Callable

from agenttask.domain.device import Choice, DeviceClass, DeviceRequest, DeviceStrategy, Stock
from agenttask.domain.quantity import amount

__all__ = ["Choice", "DeviceClass", "DeviceRequest", "DeviceStrategy", "DeviceStrategyFactory", "Stock", "amount"]

DeviceStrategyFactory = Callable[[], DeviceStrategy]
