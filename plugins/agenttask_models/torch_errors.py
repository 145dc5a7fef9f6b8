"""torch's ways to say that memory or the device is gone, as our errors."""

import gc
from collections.abc import Callable
from typing import Any, TypeVar

from agenttask.api.errors import AgentTaskError, ModelUnavailable, OutOfMemory

T = TypeVar("T")
_CPU_ALLOCATOR = "DefaultCPUAllocator"


class DeviceLost(ModelUnavailable):
    """An error of the accelerator that stays with the process: nothing works there any more until it is started anew."""


def is_short_of_memory(error: BaseException) -> bool:
    """Whether torch, the processor's allocator or Python found no memory; by name, as torch may not be imported here."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _CPU_ALLOCATOR in str(error)


def is_lost_device(error: BaseException) -> bool:
    """Whether the device's context is broken: each further call would fail the same way."""
    return any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__)


def with_typed_memory_errors(torch: Any, what: str, function: Callable[[], T]) -> T:
    """`function()`.

    Raises:
        OutOfMemory: torch or Python found no memory.
        DeviceLost: the accelerator's context is broken.
    """
    problem = ""
    try:
        return function()
    except AgentTaskError:
        raise
    except (RuntimeError, MemoryError) as error:
        if is_lost_device(error):
            raise DeviceLost(f"{what} lost its device: {_first_line(error)}; the process must be started anew") from error
        if not is_short_of_memory(error):
            raise
        problem = _first_line(error)
    # Outside of `except`: there, the error's traceback holds the very tensors that are to be freed.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemory(f"{what} found no memory ({problem}); raise `pod.resources.limits.memory`, or take a smaller model or prompt")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
