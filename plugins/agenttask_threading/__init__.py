"""Threading strategies that come with agenttask: `async`, `process` and `hybrid`; docs/threading.md compares them."""

from collections.abc import Mapping

from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.threading import ThreadingStrategyFactory
from agenttask_threading.split import Hybrid, Processes
from agenttask_threading.threads import AsyncThreads


@hookimpl
def agenttask_threading_strategies() -> Mapping[str, ThreadingStrategyFactory]:
    """Coroutines run on the loop under all of them, functions that wait on threads."""
    return {"async": AsyncThreads, "process": Processes, "hybrid": Hybrid}
