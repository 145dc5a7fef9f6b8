"""torch's ways to say that memory is gone, as our error."""

import gc
from collections.abc import Callable
from typing import Any, TypeVar

from agenttask.api.errors import AgentTaskError, OutOfMemory

T = TypeVar("T")
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def with_typed_memory_errors(torch: Any, what: str, function: Callable[[], T]) -> T:
    """`function()`.

    Raises:
        OutOfMemory: torch or Python found no memory.
    """
    problem = ""
    try:
        return function()
    except AgentTaskError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        problem = _first_line(error)
    except RuntimeError as error:
        if _CPU_ALLOCATOR not in str(error):
            raise
        problem = _first_line(error)
    # Outside of `except`: there, the error's traceback holds the very tensors that are to be freed.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemory(f"{what} found no memory ({problem}); raise `pod.resources.limits.memory`, or take a smaller model or prompt")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
