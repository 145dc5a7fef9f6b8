"""Which device a model gets in this process, whether it really works, and in which number format the model runs on it."""

from collections.abc import Callable
from typing import Any, Literal

from agenttask.api.errors import DeviceUnavailable, ModelRejected
from agenttask.plugin.engine import EngineConfig
from agenttask_models.probe import Accelerator, DeviceProbe

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
_NAMES = {"Float32": "float32", "BFloat16": "bfloat16", "Float16": "float16"}


class DeviceSelector:
    """Chooses among what a probe sees; the probe is asked only where it is not the processor anyway."""

    def __init__(self, probe: Callable[[], DeviceProbe], log: Callable[[str], None]) -> None:
        self._probe = probe
        self._log = log

    def select_device(self, model_id: str, config: EngineConfig, *, wish: str = AUTO) -> str:
        """The torch name of the device: `cpu`, or `cuda:1`.

        Args:
            model_id: for messages.
            config: the engine's limits.
            wish: `auto` takes CUDA if it works and says so if not; `cuda` and `cuda:1` insist.

        Raises:
            DeviceUnavailable: what is insisted on is not there, or does not work. Never another device in silence.
        """
        kind, _, index = wish.partition(":")
        if wish == CPU:
            return CPU
        if kind not in (AUTO, CUDA) or (index and not index.isdigit()):
            raise DeviceUnavailable(f"device {wish!r} is not known; models run on 'cpu', 'cuda', 'cuda:N' and 'auto'")
        try:
            chosen = self._accelerator(wish)
        except DeviceUnavailable as error:
            if wish != AUTO:
                raise
            self._log(f"model {model_id!r} runs on the processor: {error}")
            return CPU
        self._log(
            f"model {model_id!r} runs on {chosen.name} ({chosen.label}): {chosen.free_bytes >> 20} of {chosen.total_bytes >> 20} MiB free, "
            f"{device_share(chosen, config) >> 20} MiB are ours"
        )
        return chosen.name

    def _accelerator(self, wish: str) -> Accelerator:
        """The one with the most free memory, or the one that is named."""
        probe = self._probe()
        seen = probe.accelerators()
        if not seen:
            raise DeviceUnavailable(
                f"device {CUDA if wish == AUTO else wish!r} is asked for, and torch finds no CUDA device; "
                "allow class `cpu` in `device.classes`, or use a node and an image with CUDA"
            )
        fitting = [device for device in seen if device.name == wish or wish in (AUTO, CUDA)]
        if not fitting:
            raise DeviceUnavailable(f"device {wish!r} is asked for; there are {', '.join(device.name for device in seen)}")
        best = max(fitting, key=lambda device: device.free_bytes)
        if (why := probe.refusal(best.name)) is not None:
            raise DeviceUnavailable(f"device {best.name!r} is there and refuses work: {why}")
        return best


def device_share(device: Accelerator, config: EngineConfig) -> int:
    """Bytes of a device that this process may take."""
    return int(device.total_bytes * config.gpu_memory_fraction / config.device_processes)


def limit_memory(torch: Any, device: str, config: EngineConfig) -> None:
    """Hold torch's allocator of this very process to its share; it must be called in the process that allocates."""
    if device.startswith(CUDA):
        torch.cuda.set_per_process_memory_fraction(config.gpu_memory_fraction / config.device_processes, device)


def dtype_of(torch: Any, wish: Literal["Auto", "Float32", "BFloat16", "Float16"], device: str) -> Any:
    """float32 on processors (bfloat16 is slower there without AMX), bfloat16 on CUDA that has it, or what the AgentModel says.

    Raises:
        ModelRejected: the device does not compute in the format that is insisted on.
    """
    on_cuda = device.startswith(CUDA)
    if wish == "Auto":
        if not on_cuda:
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if wish == "BFloat16" and on_cuda and not torch.cuda.is_bf16_supported():
        raise ModelRejected(f"local.dtype BFloat16: {device} does not compute in it; use Auto or Float16")
    return getattr(torch, _NAMES[wish])
