"""Waiting for what nobody tells of."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE: Final = 180.0
"""Seconds: what takes one on a quiet machine may take this long on a slow or busy one. Only a test that fails waits so long."""


async def eventually(wanted: Callable[[], Awaitable[object]], seconds: float = PATIENCE, what: str = "it") -> None:
    """Ask until the answer is true."""
    try:
        async with asyncio.timeout(seconds):
            while not await wanted():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {seconds} s") from None
