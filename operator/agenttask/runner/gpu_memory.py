"""Memory of the GPUs that this container sees: through NVIDIA's library where it is installed (`agenttask[gpu]`), else unknown."""

import importlib
from types import ModuleType
from typing import Protocol

from msgspec import Struct


class GpuMemory(Struct, frozen=True, kw_only=True):
    """Of all visible devices together, in bytes."""

    used: int
    total: int


class GpuProbe(Protocol):
    """Tells the memory of the devices; blocking, some milliseconds."""

    def __call__(self) -> GpuMemory | None:
        """None: not known now."""
        ...


def unknown() -> GpuMemory | None:
    """Where there is no device, or no way to ask it."""
    return None


def nvidia_probe(accelerators: int, *, module: str = "pynvml") -> GpuProbe:
    """A probe for `accelerators` visible devices; `unknown` where the library or its driver is missing."""
    if not accelerators:
        return unknown
    try:
        nvml = importlib.import_module(module)
    except ImportError:
        return unknown
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return unknown
    return lambda: _memory(nvml)


def _memory(nvml: ModuleType) -> GpuMemory | None:
    used = total = 0
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            found = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
            used, total = used + int(found.used), total + int(found.total)
    except nvml.NVMLError:  # a device that is cut into MIG slices does not tell; neither does one that fell off the bus
        return None
    return GpuMemory(used=used, total=total) if total else None
