"""Keeps kopf from opening a watch again at once when it has just ended: kopf 1.45.2 itself waits for nothing.

An API server (or a proxy before it) that ends streams as soon as they are open would get a hundred requests a second from
each. Our own reflectors wait by themselves.
"""

import asyncio
import random as randomness
import time
from collections.abc import Awaitable, Callable

import aiohttp

from agenttask.controller.reflector import RECONNECTS, SETTLED_SECONDS


class WatchPace:
    """An aiohttp middleware. A stream that was opened less than ten seconds ago was a short one, and each in a row waits longer.

    One that was refused was not opened: for that kopf has a back-off of its own.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._random, self._sleep = clock, random, sleep
        self._opened: dict[str, tuple[float, int]] = {}
        """By path: when the last stream was opened, and how many short ones went before it."""

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Open a watch, when it is time; other requests at once."""
        if request.url.query.get("watch") != "true":
            return await handler(request)
        path = request.url.path
        opened, short = self._opened.get(path, (float("-inf"), 0))
        short = short + 1 if self._clock() - opened < SETTLED_SECONDS else 0
        if short:
            await self._sleep(RECONNECTS.delay(short, self._random))
        response = await handler(request)
        if response.status < 400:
            self._opened[path] = self._clock(), short
        return response
