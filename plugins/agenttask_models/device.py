"""Whether a torch device really works, and in which number format a model runs on it."""

from typing import Any, Literal

from agenttask.api.errors import DeviceUnavailable

_NAMES = {"Float32": "float32", "BFloat16": "bfloat16", "Float16": "float16"}


def check_device(torch: Any, device: str) -> None:
    """Make sure of it; a processor always works.

    Raises:
        DeviceUnavailable: it is not there, or not usable. Never another device in silence.
    """
    kind = device.partition(":")[0]
    if kind == "cpu":
        return
    if kind != "cuda":
        raise DeviceUnavailable(f"device {device!r} is not known; models run on 'cpu' and 'cuda'")
    if not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"device {device!r} is asked for, and torch {torch.__version__} finds no CUDA device; "
            "allow class `cpu` in `device.classes`, or use a node and an image with CUDA"
        )
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        raise DeviceUnavailable(f"device {device!r} is there and refuses work: {str(error).splitlines()[0]}") from error


def dtype_of(torch: Any, wish: Literal["Auto", "Float32", "BFloat16", "Float16"], device: str) -> Any:
    """float32 on processors (bfloat16 is slower there without AMX), bfloat16 on CUDA, or what the AgentModel says."""
    if wish == "Auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    return getattr(torch, _NAMES[wish])
