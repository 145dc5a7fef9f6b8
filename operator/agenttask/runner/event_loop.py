"""The event loop of a runner: uvloop, and threads of `asyncio.to_thread` that stand behind it for the processor."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvloop

from agenttask.plugin.niceness import after_the_loop

THREAD_NAME: Final = "asyncio"
"""As asyncio calls them."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """For `asyncio.Runner(loop_factory=...)`, which also ends the threads."""
    loop = uvloop.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix=THREAD_NAME, initializer=after_the_loop))
    return loop
