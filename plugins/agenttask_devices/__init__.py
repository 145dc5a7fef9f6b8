"""Device strategies that come with agenttask: `auto`, `cpu` and `gpu`."""

from collections.abc import Mapping

from agenttask.plugin.device import DeviceStrategyFactory
from agenttask.plugin.hookspecs import hookimpl
from agenttask_devices.auto import Auto
from agenttask_devices.cpu import Cpu
from agenttask_devices.gpu import Gpu


@hookimpl
def agenttask_device_strategies() -> Mapping[str, DeviceStrategyFactory]:
    """The first that fits, never a GPU, never anything but a GPU."""
    return {"auto": Auto, "cpu": Cpu, "gpu": Gpu}
