"""Who is told what of the steps: the record, the report's channel and the observer, always all three and in this order.

A step "starts" when its first try gets its slot, one with `forEach` when its list is there; before that it waits, and nobody is told.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agenttask.api.errors import AgentTaskError, Interrupted, NoTimeLeft
from agenttask.api.steps import Step
from agenttask.runner.handing_on import Gathered
from agenttask.runner.keeping import TakenOver
from agenttask.runner.observer import Observer
from agenttask.runner.record import Record

_REPORT_SECONDS = 0.2
"""Between two reports that tell of items or tries only."""

Item = tuple[int, int]
"""Its place, and how many there are."""


class Telling:
    """The ends and beginnings of one run's steps.

    Args:
        steps: of the spec.
        record: what has happened.
        report: writes the report as it stands.
        observer: log, progress, trace.
        clock: seconds.
    """

    def __init__(
        self, steps: Sequence[Step], *, record: Record, report: Callable[[], None], observer: Observer, clock: Callable[[], float]
    ) -> None:
        self._steps = steps
        self._record = record
        self._report = report
        self._observer = observer
        self._clock = clock
        self._reported = clock()
        self._ended: set[int] = set()
        self._notes: dict[int, str] = {}
        self._items: dict[tuple[int, int], float] = {}

    @contextmanager
    def of(self, index: int) -> Iterator[None]:
        """One step: whatever ends the block ends the step, unless it has ended already."""
        try:
            yield
        except NoTimeLeft as error:
            if self._record.has_started(index):
                self._fail(index, error, ends_task=False)
            raise
        except AgentTaskError as error:
            self.begin(index)
            self._fail(index, error, ends_task=True)
            raise
        except asyncio.CancelledError:
            if self._record.has_started(index):
                self._fail(index, self._interrupted(), ends_task=False)
            raise
        if index not in self._ended:
            self.begin(index)
            self._end(index, self._record.succeeded(index, self._notes.get(index, "")), None)

    @contextmanager
    def of_item(self, index: int, item: Item | None) -> Iterator[None]:
        """All tries of one item; nothing is told of one that has not started."""
        error: AgentTaskError | None = None
        try:
            yield
        except AgentTaskError as failure:
            error = failure
            raise
        except asyncio.CancelledError:
            error = self._interrupted()
            raise
        finally:
            if item is not None and (started := self._items.pop((index, item[0]), None)) is not None:
                self._observer.item_ended(index, self._steps[index], *item, seconds=self._clock() - started, error=error)

    def begin(self, index: int, item: Item | None = None, *, tries: bool = False) -> None:
        """The step's turn has come, or (`tries`) that of one try of it or its item; the first time starts it."""
        step = self._steps[index]
        if not self._record.has_started(index):
            self._record.started(index)
            self._write()
            self._observer.step_started(index, step)
        if step.retry is not None and tries:
            self._record.tried(index)
        if item is not None and (index, item[0]) not in self._items:
            self._items[index, item[0]] = self._clock()
            self._observer.item_started(index, step, *item)

    def try_failed(self, index: int, item: Item | None, tries: int, error: AgentTaskError, pause: float) -> None:
        """A try failed, and another one follows."""
        self._observer.try_failed(index, self._steps[index], None if item is None else item[0], tries=tries, error=error, pause=pause)

    def items(self, index: int, gathered: Gathered) -> None:
        """How many items have ended."""
        self._record.items(index, gathered.count, ended=gathered.ended)
        error = gathered.error
        if error is not None:
            self._notes[index] = error.message
        if self._clock() - self._reported >= _REPORT_SECONDS:
            self._write()

    def items_taken(self, index: int, gathered: Gathered) -> None:
        """Those that an earlier attempt has ended, before any other one starts."""
        self.items(index, gathered)
        if gathered.ended:
            self._observer.items_taken(index, self._steps[index], taken=gathered.ended, count=gathered.count)

    def skipped(self, index: int, why: str) -> None:
        """The step does not run."""
        self._ended.add(index)
        self._record.skipped(index, why)
        self._write()
        self._observer.step_skipped(index, self._steps[index], why=why)

    def taken(self, index: int, taken: TakenOver) -> None:
        """The step was ended by an earlier attempt."""
        if taken.skipped is not None:
            self.skipped(index, taken.skipped)
            return
        self._ended.add(index)
        self._record.taken(index, taken.attempt, failed=taken.output.error is not None and not taken.output.results)
        self._write()
        self._observer.step_taken(index, self._steps[index], attempt=taken.attempt)

    def tolerated(self, index: int, error: AgentTaskError) -> None:
        """The step failed, and the task goes on."""
        self.begin(index)
        self._fail(index, error, ends_task=False)

    def _fail(self, index: int, error: AgentTaskError, *, ends_task: bool) -> None:
        self._end(index, self._record.failed(index, error, ends_task=ends_task), error)

    def _end(self, index: int, seconds: float, error: AgentTaskError | None) -> None:
        self._ended.add(index)
        self._write()
        self._observer.step_ended(index, self._steps[index], seconds=seconds, error=error)

    def _interrupted(self) -> Interrupted:
        return Interrupted(self._record.halted or "cancelled")

    def _write(self) -> None:
        self._reported = self._clock()
        self._report()
