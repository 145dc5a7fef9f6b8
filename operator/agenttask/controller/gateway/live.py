"""How far running attempts are, in memory only: the reconciler shows it in status, at most once in ten seconds a task."""

from collections.abc import Callable
from typing import Final

from agenttask.api.gateway import LiveReport, TokenClaims
from agenttask.api.report import Report

WRITE_SECONDS: Final = 10.0
"""Between two status writes of one task that only tell of progress."""


class LiveReports:
    """The last report of each attempt; `wake` has its task looked at."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._reports: dict[str, Report] = {}
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
        self._written.pop(uid, None)

    def __len__(self) -> int:
        return len(self._reports)
