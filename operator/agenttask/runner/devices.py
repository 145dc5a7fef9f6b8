"""Which torch device a model gets in this process, by the same strategy that placed the pod.

The inventory is what the container was given: the processor always, CUDA where the device class or a device file says
so. torch is not asked here (importing it costs 1.5 s, and initialising CUDA poisons forks); the model factory finds out
whether the device really works, and which of several has the most memory free.
"""

from pathlib import Path
from typing import Final

from agenttask.api.document import DeviceDocument, TaskDocument
from agenttask.api.errors import DeviceUnavailable
from agenttask.plugin.device import DeviceClass, DeviceRequest, DeviceStrategy, Stock
from agenttask.runner.engine_terms import EngineLimits

AUTO: Final = "auto"
CPU: Final = "cpu"
CUDA: Final = "cuda"


def visible_accelerators(dev: Path = Path("/dev")) -> int:
    """Device files of accelerators: NVIDIA's by number, AMD's as one."""
    return sum(entry.name[6:].isdigit() for entry in dev.glob("nvidia*")) + (dev / "kfd").exists()


def torch_device(strategy: DeviceStrategy, device: DeviceDocument, *, device_type: str, accelerators: int) -> str:
    """The strategy's first usable choice: `cpu`, `cuda`, or `auto` where nobody placed the task and either will do.

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
    usable = [choice.class_ for choice in choices if choice.usable]
    if usable:
        return AUTO if len(usable) > 1 and usable[0] == CUDA else usable[0]
    verdicts = "; ".join(f"{choice.class_}: {choice.verdict}" for choice in choices) or "the strategy considers none"
    raise DeviceUnavailable(f"no device for models in this pod (wished: {', '.join(wished)}): {verdicts}")


def _wished(device: DeviceDocument, device_type: str, accelerators: int) -> tuple[str, ...]:
    if device_type != AUTO:
        return (device_type,)
    if device.kind == CUDA:
        return (CUDA,)
    if device.kind == AUTO:  # a local run: nobody placed it
        return (CUDA, CPU) if accelerators else (CPU,)
    return (CPU,)


def engine_limits(document: TaskDocument) -> EngineLimits:
    """What a task allows to its engines: the hub by the installation's policy, the processor after a lack of memory by `device.classes`.

    Each isolated model is one process on the device, all others together are one more.
    """
    local = [model.local for model in document.models if model.local is not None]
    isolated = sum(model.isolation == "Process" for model in local)
    return EngineLimits(
        hub=document.policy.hub,
        cpu_fallback=CPU in document.spec.device.classes,
        device_processes=max(1, isolated + (len(local) > isolated)),
    )
