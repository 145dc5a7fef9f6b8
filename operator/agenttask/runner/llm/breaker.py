"""A circuit breaker: an endpoint that fails is left alone for a while, then one call tries it before the others come back.

Own code, because every library that was tried lets all waiting calls through at once when the pause is over, and counts
a cancelled call as a failure. The core does no I/O: time comes in, verdicts go out.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from agenttask.api.model import CircuitBreaker


class Refusal(Struct, frozen=True, kw_only=True):
    """Why a call may not go through; times are seconds from now."""

    open_for: float
    again_in: float
    """0 where one call is trying the endpoint at this moment."""
    failed: int
    calls: int
    cause: str
    """The failure that opened the breaker."""


class Permit:
    """Leave for one call; whoever holds it tells what came of it, once."""

    def __init__(self, breaker: "Breaker", epoch: int) -> None:
        self._breaker = breaker
        self.epoch = epoch

    def answers(self) -> None:
        """The endpoint has begun to answer: a trial is over, though the call is not."""
        self._breaker.trial_answered(self)

    def succeeded(self) -> None:
        """The endpoint answered, or refused this very request."""
        self._breaker.settle(self, failure=None)

    def failed(self, cause: str) -> None:
        """The endpoint is at fault."""
        self._breaker.settle(self, failure=cause)

    def let_go(self) -> None:
        """Nothing was learnt: cancelled, rate limited, left early."""
        self._breaker.forget(self)


class Breaker:
    """Closed, open, or half open with one call on trial; `changed` is told of each change in words."""

    def __init__(self, settings: CircuitBreaker, *, clock: Callable[[], float], changed: Callable[[str], None]) -> None:
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._opened: float | None = None
        self._opening = Refusal(open_for=0, again_in=0, failed=0, calls=0, cause="")
        self._trial: Permit | None = None
        self._epoch = 0

    @property
    def open_seconds(self) -> float:
        """How long it stays open from now on; 0 where a call may go through, be it on trial."""
        return 0.0 if self._opened is None else max(0.0, self._settings.open_seconds - (self._clock() - self._opened))

    def admit(self) -> Permit | Refusal:
        """Leave for a call, or why not."""
        if self._opened is None:
            return Permit(self, self._epoch)
        open_for = self._clock() - self._opened
        again_in = self._settings.open_seconds - open_for
        if again_in > 0 or self._trial is not None:
            opening = self._opening
            return Refusal(open_for=open_for, again_in=max(0.0, again_in), failed=opening.failed, calls=opening.calls, cause=opening.cause)
        self._trial = Permit(self, self._epoch)
        self._changed(f"half open after {open_for:.0f} s: one call tries it")
        return self._trial

    def trial_answered(self, permit: Permit) -> None:
        """Close, if this call was the trial; from now on it counts as any other."""
        if permit is self._trial:
            self._close()
            permit.epoch = self._epoch

    def settle(self, permit: Permit, *, failure: str | None) -> None:
        """A call ended. Calls that were let through before the breaker last opened or closed no longer count."""
        if permit is self._trial:
            self._trial = None
            if failure is None:
                self._close()
            else:
                self._open(1, 1, failure)
        elif permit.epoch == self._epoch and self._opened is None:
            self._count(failure)

    def forget(self, permit: Permit) -> None:
        """A call ended without a verdict; if it was the trial, the next one is."""
        if permit is self._trial:
            self._trial = None

    def _count(self, failure: str | None) -> None:
        now = self._clock()
        self._calls.append((now, failure is not None))
        self._failed += failure is not None
        while self._calls[0][0] <= now - self._settings.window_seconds:
            self._failed -= self._calls.popleft()[1]
        calls = len(self._calls)
        if failure is not None and calls >= self._settings.minimum_calls and self._failed * 100 >= self._settings.failure_percent * calls:
            self._open(self._failed, calls, failure)

    def _open(self, failed: int, calls: int, cause: str) -> None:
        self._turn(opened=self._clock())
        self._opening = Refusal(open_for=0, again_in=0, failed=failed, calls=calls, cause=cause)
        self._changed(f"open for {self._settings.open_seconds} s: {failed} of {calls} calls failed, the last with: {cause}")

    def _close(self) -> None:
        self._turn(opened=None)
        self._changed("closed: it answers again")

    def _turn(self, *, opened: float | None) -> None:
        self._opened, self._trial = opened, None
        self._calls.clear()
        self._failed = 0
        self._epoch += 1
