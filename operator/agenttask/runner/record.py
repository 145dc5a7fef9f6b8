"""What has happened in one attempt so far, and the report that it makes."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from agenttask.api.errors import AgentTaskError
from agenttask.api.report import ErrorReport, Report, StepCode, StepReport, UsageReport
from agenttask.plugin.llm import Usage


class StepState(Struct):
    """One step that has started, or will not."""

    code: StepCode
    started: float
    ended: float | None = None
    message: str = ""
    tries: int = 0
    items_ended: int = 0
    items: int = 0


class Record:
    """The steps' states by index; `names` are theirs, `clock` measures, `now` is Unix seconds of the run's start."""

    def __init__(self, attempt: int, names: Sequence[str], *, clock: Callable[[], float], now: float) -> None:
        self._attempt = attempt
        self._names = names
        self._clock = clock
        self._now = now
        self._origin = clock()
        self._states: dict[int, StepState] = {}
        self.error: AgentTaskError | None = None
        """The first error; it is the task's."""
        self.failed_step: int | None = None
        self._cancelled: str | None = None
        self._closed: str | None = None

    def started(self, index: int) -> None:
        """A step starts."""
        self._states[index] = StepState(code="R", started=self._clock())

    def has_started(self, index: int) -> bool:
        """Whether the step has a state."""
        return index in self._states

    def tried(self, index: int) -> None:
        """A try of a step with `retry`, or of one of its items."""
        self._states[index].tries += 1

    def items(self, index: int, count: int, *, ended: int) -> None:
        """So many items a step has, and so many have ended."""
        self._states[index].items, self._states[index].items_ended = count, ended

    def succeeded(self, index: int, message: str = "") -> float:
        """A step is done; how many seconds it took."""
        return self._end(index, "S", message)

    def failed(self, index: int, error: AgentTaskError, *, ends_task: bool) -> float:
        """A step failed or was cancelled; how many seconds it took."""
        if ends_task and self.error is None:
            self.error, self.failed_step = error, index
        return self._end(index, "F", str(error))

    def taken(self, index: int, attempt: int, *, failed: bool) -> None:
        """A step that an earlier attempt has ended."""
        moment = self._clock()
        message = f"ended in attempt {attempt}"
        self._states[index] = StepState(code="F" if failed else "S", started=moment, ended=moment, message=message)

    def skipped(self, index: int, why: str) -> None:
        """A step will not start."""
        moment = self._clock()
        self._states[index] = StepState(code="K", started=moment, ended=moment, message=why)

    def untouched(self) -> tuple[int, ...]:
        """The steps that have not started and are not skipped."""
        return tuple(index for index in range(len(self._names)) if index not in self._states)

    def halt(self, why: str) -> None:
        """Remember why running steps are cancelled; the first reason counts."""
        self._cancelled = self._cancelled or why

    def close(self, why: str) -> None:
        """Remember why no more steps start, though those that run may end; the first reason counts."""
        self._closed = self._closed or why

    @property
    def halted(self) -> str | None:
        """Why running steps are cancelled, else why no more start."""
        return self._cancelled or self._closed

    def seconds(self) -> float:
        """Since the run's start."""
        return self._clock() - self._origin

    def report(self, usage: Usage, cost: str = "", *, done: bool = False, output: str | None = None) -> Report:
        """All of it, as the controller reads it; an error shows in the last report only."""
        return Report(
            attempt=self._attempt,
            started=int(self._now * 1000),
            done=done,
            steps=tuple(self._step(index, state) for index, state in sorted(self._states.items())),
            usage=UsageReport(usage.calls, usage.input_tokens, usage.output_tokens, cost),
            error=self._error() if done else None,
            output=output,
        )

    def message(self) -> str | None:
        """The task's error with the step at fault, None where there is none."""
        if self.error is None or self.failed_step is None:
            return None if self.error is None else str(self.error)
        return f"step {self._names[self.failed_step]!r}: {self.error}"

    def _error(self) -> ErrorReport | None:
        if self.error is None:
            return None
        return ErrorReport(reason=self.error.reason, message=self.message() or "", step=self.failed_step)

    def _end(self, index: int, code: StepCode, message: str) -> float:
        state = self._states[index]
        state.code, state.ended, state.message = code, self._clock(), message
        return state.ended - state.started

    def _step(self, index: int, state: StepState) -> StepReport:
        started = max(0, int((state.started - self._origin) * 1000))
        duration = 0 if state.ended is None else max(0, int((state.ended - state.started) * 1000))
        return StepReport(index, state.code, started, duration, state.message, state.tries, state.items_ended, state.items)
