"""Device strategies that come with agenttask: `auto`, `cpu`, `gpu`, `smallest` and `cheapest`."""

from collections.abc import Mapping

from agenttask.plugin.device import DeviceStrategyFactory
from agenttask.plugin.hookspecs import hookimpl
from agenttask_devices.auto import Auto
from agenttask_devices.cheapest import Cheapest
from agenttask_devices.cpu import Cpu
from agenttask_devices.gpu import Gpu
from agenttask_devices.smallest import Smallest


@hookimpl
def agenttask_device_strategies() -> Mapping[str, DeviceStrategyFactory]:
    """The first that fits, never a GPU, never anything but a GPU, the least that is enough, the lowest cost."""
    return {"auto": Auto, "cpu": Cpu, "gpu": Gpu, "smallest": Smallest, "cheapest": Cheapest}
