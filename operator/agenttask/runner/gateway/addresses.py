"""Where the gateway's replicas are: all addresses of the headless Service, the one that answered last first.

Only the leader answers, so whoever did once is asked again before any look-up. When the name cannot be looked up, those known
from before are asked.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name; a look-up is a daemon thread's: where no DNS answers it takes a minute, and no runner waits for it.

    Raises:
        OSError: it has none now.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def look_up() -> None:
        act: Callable[[], None]
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            problem = error if isinstance(error, OSError) else OSError(str(error))
            act = lambda: found.set_exception(problem)  # noqa: E731
        else:
            act = lambda: found.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if found.done() else act())

    threading.Thread(target=look_up, name=f"look-up of {host}", daemon=True).start()
    return await found


class Addresses:
    """Of one gateway; `rng` gives numbers from 0 up to 1, so that not all runners ask the same replica first."""

    def __init__(self, host: str, port: int, *, resolve: Resolve, rng: Callable[[], float]) -> None:
        self._host = host
        self._port = port
        self._resolve = resolve
        self._rng = rng
        self._known: tuple[str, ...] = ()
        self._answered: str | None = None

    async def in_turn(self) -> AsyncGenerator[str, None]:
        """Each address once.

        Raises:
            OSError: none is known.
        """
        first = self._answered
        if first is not None:
            yield first
        try:
            self._known = tuple(sorted(await self._resolve(self._host, self._port), key=lambda _: self._rng()))
        except OSError:
            if not self._known:
                raise
        for address in self._known:
            if address != first:
                yield address

    def answered(self, address: str) -> None:
        """This one is the leader's."""
        self._answered = address

    def failed(self, address: str) -> None:
        """It is not, or not any more."""
        if self._answered == address:
            self._answered = None
