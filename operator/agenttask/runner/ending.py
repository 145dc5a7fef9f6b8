"""How a run ends before its steps are done: at its soft deadline, on SIGTERM, or at once.

Two stages. First nothing new starts, and what runs may end; then what still runs is cancelled. The soft deadline has the first
stage only: the second one is the active deadline, which the controller holds.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from agenttask.api.errors import Interrupted, NoTimeLeft, SoftDeadlineReached


class Ending:
    """Of one run; `close` is told why nothing new may start, `halt` why what runs is cancelled."""

    def __init__(self, *, close: Callable[[NoTimeLeft], None], halt: Callable[[str], None]) -> None:
        self._close = close
        self._halt = halt
        self._work: asyncio.Task[Any] | None = None
        self._stopped = False
        self._timers: list[asyncio.TimerHandle] = []

    def start_no_more(self, why: NoTimeLeft) -> None:
        """The first stage."""
        self._close(why)

    def stop(self, why: str) -> None:
        """Both stages at once."""
        self._stopped = True
        self._halt(why)
        if self._work is not None:
            self._work.cancel()

    def stop_within(self, why: str, seconds: float) -> None:
        """The first stage now, the second one after `seconds`; on the loop."""
        self.start_no_more(Interrupted(why))
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self.stop, why))

    def begin(self, work: asyncio.Task[Any], *, soft_deadline_seconds: float | None, elapsed: float) -> None:
        """The run's work begins; a run that was stopped before does not get far."""
        self._work = work
        if self._stopped:
            work.cancel()
        if soft_deadline_seconds is not None:
            why = SoftDeadlineReached(f"no step, item or try starts after {soft_deadline_seconds} s of running (softDeadlineSeconds)")
            left = max(0.0, soft_deadline_seconds - elapsed)
            self._timers.append(asyncio.get_running_loop().call_later(left, self.start_no_more, why))

    def over(self) -> None:
        """The work has ended, or is to end now."""
        if self._work is not None:
            self._work.cancel()
        for timer in self._timers:
            timer.cancel()
