"""What accelerators this process sees: a port, so that choosing one is tested without any.

With MIG a process sees exactly one instance: torch knows the slice's memory, NVML only its card's name. So numbers come from
torch, and the name from NVML where it is there.
"""

import contextlib
import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct


class Accelerator(Struct, frozen=True, kw_only=True):
    """One CUDA device, or the MIG instance that stands for one."""

    name: str
    """As torch calls it: `cuda:0`."""
    free_bytes: int
    total_bytes: int
    label: str = ""
    """For people: `NVIDIA H100 80GB HBM3`, or with its slice, `NVIDIA H100 MIG 1g.10gb`."""


class DeviceProbe(Protocol):
    """Looks at the devices, blocking."""

    def accelerators(self) -> Sequence[Accelerator]:
        """Those that torch can use; none where there is no driver, no device, or no CUDA in torch."""
        ...

    def refusal(self, device: str) -> str | None:
        """Why a device does not work, found by putting one number there; None: it works."""
        ...


class TorchProbe:
    """Asks torch, which initialises CUDA in this process where there is any."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def accelerators(self) -> Sequence[Accelerator]:
        """By index."""
        cuda = self._torch.cuda
        if not cuda.is_available():
            return ()
        found = []
        for index in range(cuda.device_count()):
            with contextlib.suppress(RuntimeError):  # a card that has fallen off the bus is none
                free, total = cuda.mem_get_info(index)
                found.append(Accelerator(name=f"cuda:{index}", free_bytes=free, total_bytes=total, label=self._label(index)))
        return tuple(found)

    def refusal(self, device: str) -> str | None:
        """The first line of torch's own words."""
        try:
            self._torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
            return (str(error) or type(error).__name__).splitlines()[0]
        return None

    def _label(self, index: int) -> str:
        properties = self._torch.cuda.get_device_properties(index)
        return nvml_name(str(getattr(properties, "uuid", ""))) or str(properties.name)


def nvml_name(uuid: str) -> str:
    """The name that NVML has for a device or MIG instance; empty where NVML is not there: then there is no telemetry, no failure."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return ""
    try:
        nvml.nvmlInit()
        for prefix in ("GPU-", "MIG-"):
            with contextlib.suppress(nvml.NVMLError):
                return str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByUUID(f"{prefix}{uuid}")))
        return ""
    except nvml.NVMLError:
        return ""
