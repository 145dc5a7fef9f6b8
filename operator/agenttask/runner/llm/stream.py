"""Streams of clients inside of streams: whoever ends early ends the one inside, down to the connection."""

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class closing(Generic[T]):  # noqa: N801 - reads as contextlib.aclosing, which takes only what can be closed
    """Close the iterator at the end of the block, where it can be closed."""

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        self._iterator = iterator

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._iterator

    async def __aexit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if isinstance(self._iterator, AsyncGenerator):
            await self._iterator.aclose()
