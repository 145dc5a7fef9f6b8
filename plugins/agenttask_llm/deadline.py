"""A time-out for the beginning of something: it is called off when the beginning is there, and the rest takes its time."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Deadline:
    """`async with Deadline(seconds, late) as deadline: ... deadline.met()`; `late` makes the error, None is no deadline."""

    def __init__(self, seconds: float | None, late: Callable[[], Exception]) -> None:
        self._scope = asyncio.timeout(seconds)
        self._late = late

    def met(self) -> None:
        """The beginning is there."""
        if self._scope.when() is not None:
            self._scope.reschedule(None)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError as expired:
            raise self._late() from expired
