"""Tells the controller how far the attempt is while it runs, and takes its shares of the models' limits from the answers.

The first report is due when the attempt runs for two seconds; each later one when the answer before said, if there is anything
to tell or to ask. Nothing depends on one that is lost: the next one tells all again.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from agenttask.api.gateway import FIRST_REPORT_SECONDS, REPORT_SECONDS, LiveReport, ReportAnswer, Share
from agenttask.runner.cancelling import cancel
from agenttask.runner.gateway.errors import Fenced, GatewayError, GatewayUnavailable

_ANSWER_SECONDS = 15.0
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 300.0
"""Between two reports, whatever the answer says."""
_SILENCE_SECONDS = 60.0
"""A report is due after it, though nothing has changed: an attempt that was fenced learns of it. So long one waits that was refused."""


class Reporter(Protocol):
    """Where live reports go."""

    async def report(self, report: LiveReport, *, seconds: float) -> ReportAnswer:
        """Hand one over, within so many seconds.

        Raises:
            GatewayError: it was not taken.
        """
        ...


class LiveReports:
    """Of one run.

    Args:
        reporter: the gateway.
        snapshot: the report as it stands.
        share: takes the shares by AgentModel.
        asks: whether shares are of interest though there is nothing new to tell: the task names models.
        log: a line.
        rng: from 0 up to 1; attempts that started together do not report together for ever.
    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        snapshot: Callable[[], LiveReport],
        share: Callable[[Mapping[str, Share]], None],
        asks: bool,
        log: Callable[[str, str], None],
        rng: Callable[[], float],
    ) -> None:
        self._reporter = reporter
        self._snapshot = snapshot
        self._share = share
        self._asks = asks
        self._log = log
        self._rng = rng
        self._told: LiveReport | None = None
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, *, elapsed: float) -> None:
        """The run began `elapsed` seconds ago."""
        self._task = asyncio.create_task(self._run(max(0.0, FIRST_REPORT_SECONDS - elapsed)), name="live reports")

    async def over(self) -> None:
        """The last word is the termination message's."""
        task, self._task = self._task, None
        await cancel(task)

    async def tell(self) -> None:
        """Once more, though the run is over: status shows its steps as they ended while something else is waited for."""
        try:
            await self._reporter.report(self._snapshot(), seconds=_ANSWER_SECONDS)
        except GatewayError as error:
            self._say(str(error))

    async def _run(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            await asyncio.sleep(pause)
            report = self._snapshot()
            if report == self._told and not self._asks and loop.time() - heard < _SILENCE_SECONDS:
                continue
            try:
                answer = await self._reporter.report(report, seconds=_ANSWER_SECONDS)
            except Fenced:
                return
            except GatewayError as error:
                self._say(str(error))
                pause = self._spread(REPORT_SECONDS if isinstance(error, GatewayUnavailable) else _SILENCE_SECONDS)
            else:
                self._told, self._problem, heard = report, None, loop.time()
                self._share(answer.limits)
                pause = self._spread(answer.next_report_seconds)

    def _spread(self, seconds: float) -> float:
        return min(_LONGEST_SECONDS, max(_SHORTEST_SECONDS, seconds)) * (1 + self._rng() / 10)

    def _say(self, problem: str) -> None:
        """Once for each problem."""
        if problem != self._problem:
            self._log("gateway", f"no live report: {problem}")
        self._problem = problem
