"""Stopping on SIGTERM: the first one asks the run to end within its grace period, the second one ends it at once."""

import asyncio
import os
import signal
from collections.abc import Callable

from agenttask.runner.descendants import kill_descendants

EXIT_STOPPED = 128 + signal.SIGTERM


class Stop:
    """What SIGTERM does while a run is on.

    Args:
        ask: cancels the run.
        give_up: called once when there is no time left, before the process is gone; writes the last report.
        leave: ends the process without any more Python.
    """

    def __init__(self, *, grace_seconds: float, ask: Callable[[], None], give_up: Callable[[], None], leave: Callable[[], None]) -> None:
        self._grace_seconds = grace_seconds
        self._ask = ask
        self._give_up = give_up
        self._leave = leave
        self.requested = False

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take SIGTERM (a pod's end) and SIGINT (a person's)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request, loop)

    def request(self, loop: asyncio.AbstractEventLoop) -> None:
        """One signal came."""
        if self.requested:
            self._end()
        else:
            self.requested = True
            loop.call_later(self._grace_seconds, self._end)
            self._ask()

    def _end(self) -> None:
        try:
            self._give_up()
        finally:
            self._leave()


def leave_at_once() -> None:
    """Kill what the task has started, and be gone."""
    kill_descendants(os.getpid())
    os._exit(EXIT_STOPPED)
