"""What this process uses and leaves open while its tasks run, told as in a pod: resources always, the rest with `AGENTTASK_DEBUG=1`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from agenttask.cli.preparing import LocalRun
from agenttask.plugin.threading import ThreadingState
from agenttask.runner.debug import leak_report, traced_memory
from agenttask.runner.gpu_memory import nvidia_probe
from agenttask.runner.library_log import library_log
from agenttask.runner.resources import ResourceMonitor
from agenttask.runner.usage_probe import UsageProbe


@asynccontextmanager
async def looked_at(runs: Sequence[LocalRun], state: Callable[[], ThreadingState]) -> AsyncIterator[None]:
    """Around all that the tasks make and end; one of them that debugs is enough to debug the process.

    Args:
        runs: the tasks; the first one's settings and log are those of the process.
        state: of their threading strategies together.
    """
    first = runs[0]
    async with AsyncExitStack() as stack:
        stack.enter_context(library_log(first.say))
        if any(run.settings.debug for run in runs):
            loop = asyncio.get_running_loop()
            stack.callback(loop.set_debug, loop.get_debug())
            loop.set_debug(True)
            stack.enter_context(traced_memory(first.say))
            await stack.enter_async_context(leak_report(first.say))
        probe = UsageProbe(gpu=nvidia_probe(first.station.accelerators))
        async with ResourceMonitor(probe, cpus=first.settings.cpus, state=state) as monitor:
            yield
            first.say("resources", await monitor.summary())


def summed(states: Sequence[ThreadingState]) -> ThreadingState:
    """Of several strategies."""
    return ThreadingState(
        queued=sum(state.queued for state in states),
        threads=sum(state.threads for state in states),
        processes=sum(state.processes for state in states),
    )
