"""Which torch device a model gets in this process, by the same strategy that placed the pod.

The inventory is what the container was given: the processor always, CUDA where the device class or a device file says
so. torch is not asked here (importing it costs 1.5 s, and initialising CUDA poisons forks); the model factory finds out
whether the device really works.
"""

from pathlib import Path

from agenttask.api.document import DeviceDocument
from agenttask.api.errors import DeviceUnavailable
from agenttask.plugin.device import DeviceClass, DeviceRequest, DeviceStrategy, Stock

CPU, CUDA = "cpu", "cuda"


def visible_accelerators(dev: Path = Path("/dev")) -> int:
    """Device files of accelerators: NVIDIA's by number, AMD's as one."""
    return sum(entry.name[6:].isdigit() for entry in dev.glob("nvidia*")) + (dev / "kfd").exists()


def torch_device(strategy: DeviceStrategy, device: DeviceDocument, *, device_type: str, accelerators: int) -> str:
    """The strategy's first usable choice.

    Args:
        strategy: what the task names.
        device: the class that placement chose.
        device_type: `auto` goes by the class, `cpu` and `cuda` insist.
        accelerators: how many there are to see.

    Raises:
        DeviceUnavailable: none is usable; never another device in silence.
    """
    wished = _wished(device, device_type, accelerators)
    free = None if device.kind == CUDA and not accelerators else accelerators
    inventory = (
        Stock(class_=DeviceClass(name=CUDA, kind=CUDA), free=free, total=free),
        Stock(class_=DeviceClass(name=CPU, kind=CPU), free=1, total=1),
    )
    choices = strategy.rank(DeviceRequest(classes=wished), inventory)
    for choice in choices:
        if choice.usable:
            return choice.class_
    verdicts = "; ".join(f"{choice.class_}: {choice.verdict}" for choice in choices) or "the strategy considers none"
    raise DeviceUnavailable(f"no device for models in this pod (wished: {', '.join(wished)}): {verdicts}")


def _wished(device: DeviceDocument, device_type: str, accelerators: int) -> tuple[str, ...]:
    if device_type != "auto":
        return (device_type,)
    if device.kind == CUDA:
        return (CUDA,)
    if device.kind == "auto":  # a local run: nobody placed it
        return (CUDA, CPU) if accelerators else (CPU,)
    return (CPU,)
