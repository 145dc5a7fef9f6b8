"""Threading strategies that come with agenttask: `async`."""

from collections.abc import Mapping

from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.threading import ThreadingStrategyFactory
from agenttask_threading.threads import AsyncThreads


@hookimpl
def agenttask_threading_strategies() -> Mapping[str, ThreadingStrategyFactory]:
    """Coroutines on the loop, everything else on threads."""
    return {"async": AsyncThreads}
