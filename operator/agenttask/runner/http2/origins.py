"""Which origins chose HTTP/1.1, for a while: they are not asked again with each request, and not for ever either."""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

_MOST = 1024
Origin = TypeVar("Origin", bound=Hashable)


class Http1Origins(Generic[Origin]):
    """A memory that expires and stays small."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[Origin, float] = {}

    def remember(self, origin: Origin) -> None:
        """It chose HTTP/1.1 just now."""
        self._until.pop(origin, None)
        self._until[origin] = self._clock() + self._seconds
        if len(self._until) > _MOST:
            del self._until[next(iter(self._until))]  # the one that was told longest ago

    def __contains__(self, origin: object) -> bool:
        self._expire()
        return origin in self._until

    def __iter__(self) -> Iterator[Origin]:
        self._expire()
        return iter(list(self._until))

    def _expire(self) -> None:
        while self._until and (first := next(iter(self._until))) and self._until[first] <= self._clock():
            del self._until[first]  # the first was told longest ago
