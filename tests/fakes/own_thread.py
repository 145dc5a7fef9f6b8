"""A server on a loop and a thread of its own, for tests whose other side is another process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_own_thread(serving: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What `serving` gives, while it serves."""
    loop = asyncio.new_event_loop()
    ready: list[T] = []
    there, end = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving as given:
            ready.append(given)
            there.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert there.wait(30)
        yield ready[0]
    finally:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end.set)
        thread.join(30)
        loop.close()
