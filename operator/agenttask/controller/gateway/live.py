"""How far running attempts are, in memory only: the reconciler shows it in status, at most once in ten seconds a task.

Of one that is done and has no room for its output it shows that at once.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from agenttask.api.gateway import LiveReport, TokenClaims
from agenttask.api.report import Report

WRITE_SECONDS: Final = 10.0
"""Between two status writes of one task that only tell of progress."""


class _NoRoom(Struct, frozen=True):
    """An output that has no record, and whether it was offered more than once."""

    attempt: int
    why: str
    again: bool


class LiveReports:
    """The last report of each attempt; `wake` has its task looked at."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._reports: dict[str, Report] = {}
        self._no_room: dict[str, _NoRoom] = {}
        self._written: dict[str, float] = {}

    def take(self, claims: TokenClaims, told: LiveReport) -> None:
        """A report came in."""
        report = Report(attempt=claims.attempt, started=told.started, steps=told.steps, usage=told.usage)
        if self._reports.get(claims.uid) == report:
            return
        self._reports[claims.uid] = report
        self._wake(claims.uid)

    def of(self, uid: str, attempt: int) -> Report | None:
        """The last report of this attempt."""
        report = self._reports.get(uid)
        return report if report is not None and report.attempt == attempt else None

    def no_room(self, claims: TokenClaims, why: str) -> None:
        """The attempt's output was refused a record. Asked for again it is waited for: an attempt with an object store asks once."""
        before = self._no_room.get(claims.uid)
        again = before is not None and before.attempt == claims.attempt
        self._no_room[claims.uid] = _NoRoom(claims.attempt, why, again)
        if again and before is not None and not before.again:
            self._wake(claims.uid)

    def kept(self, uid: str) -> None:
        """The output is stored."""
        self._no_room.pop(uid, None)

    def waits(self, uid: str, attempt: int) -> str:
        """Why the attempt's output waits for its record; empty where it does not."""
        found = self._no_room.get(uid)
        return found.why if found is not None and found.attempt == attempt and found.again else ""

    def due(self, uid: str) -> float:
        """From when on (Unix seconds) progress may be written again."""
        return self._written.get(uid, float("-inf")) + WRITE_SECONDS

    def written(self, uid: str, now: float) -> None:
        """The task's status was written just now."""
        if uid in self._reports:
            self._written[uid] = now

    def forget(self, uid: str) -> None:
        """The task is final or gone."""
        self._reports.pop(uid, None)
        self._no_room.pop(uid, None)
        self._written.pop(uid, None)

    def __len__(self) -> int:
        return len(self._reports)
