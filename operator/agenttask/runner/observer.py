"""The port through which a run is watched: log, progress on a terminal and traces all hang here.

Methods are called on the event loop, in the coroutine of what they are about: `step_started`, the step's model calls and
`step_ended` share one asyncio task, so a context variable set in one is seen by the next; so do `item_started`, the
item's model calls and `item_ended`. They must be quick and must not raise. Their arguments are types of `api` and
`plugin` only, so that an observer needs no import of the runner.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.api.errors import AgentTaskError
from agenttask.api.steps import Step
from agenttask.plugin.llm import Usage

Operation = Literal["chat", "embed"]


class Observer(Protocol):
    """What happens in one run; `seconds` is how long it took, `error` None is success."""

    def run_started(self, document: TaskDocument) -> None:
        """The task is valid and its first step is about to start."""
        ...

    def run_ended(self, document: TaskDocument, *, seconds: float, usage: Usage, error: AgentTaskError | None) -> None:
        """The task ended; called once for each `run_started`, and alone when the task was refused before."""
        ...

    def step_started(self, index: int, step: Step) -> None:
        """A step starts: its first try has its turn, or the list of its `forEach` is there."""
        ...

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:
        """The step ended or was cancelled."""
        ...

    def step_skipped(self, index: int, step: Step, *, why: str) -> None:
        """The step will not start: its `when` is false, another step failed, or the run is stopping."""
        ...

    def step_taken(self, index: int, step: Step, *, attempt: int) -> None:
        """The step ended in an earlier attempt, and does not run."""
        ...

    def items_taken(self, index: int, step: Step, *, taken: int, count: int) -> None:
        """So many of a `forEach` step's items ended in an earlier attempt, and do not run; told once, where there are any."""
        ...

    def item_started(self, index: int, step: Step, item: int, count: int) -> None:
        """An item of `forEach` has its turn; `item` counts from 0."""
        ...

    def item_ended(self, index: int, step: Step, item: int, count: int, *, seconds: float, error: AgentTaskError | None) -> None:
        """The item ended or was cancelled."""
        ...

    def try_failed(self, index: int, step: Step, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:
        """A try failed, the `tries`-th of the step (of the item, where it is one), and another one follows in `pause` seconds."""
        ...

    def model_call_started(self, call: int, step: str, model: ModelDocument, operation: Operation, *, max_tokens: int | None) -> None:
        """A model is asked; `call` numbers the calls of the run in the order of their start, `max_tokens` bounds a chat's answer."""
        ...

    def model_call_ended(
        self, call: int, *, seconds: float, usage: Usage, finish_reason: str | None, answered_by: str, error: BaseException | None
    ) -> None:
        """The answer is complete, or there is none; `answered_by` is the name that the endpoint gives the model."""
        ...


class NullObserver:
    """Watches nothing; a base for observers that care for some events only."""

    def run_started(self, document: TaskDocument) -> None:
        """Nothing."""

    def run_ended(self, document: TaskDocument, *, seconds: float, usage: Usage, error: AgentTaskError | None) -> None:
        """Nothing."""

    def step_started(self, index: int, step: Step) -> None:
        """Nothing."""

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:
        """Nothing."""

    def step_skipped(self, index: int, step: Step, *, why: str) -> None:
        """Nothing."""

    def step_taken(self, index: int, step: Step, *, attempt: int) -> None:
        """Nothing."""

    def items_taken(self, index: int, step: Step, *, taken: int, count: int) -> None:
        """Nothing."""

    def item_started(self, index: int, step: Step, item: int, count: int) -> None:
        """Nothing."""

    def item_ended(self, index: int, step: Step, item: int, count: int, *, seconds: float, error: AgentTaskError | None) -> None:
        """Nothing."""

    def try_failed(self, index: int, step: Step, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:
        """Nothing."""

    def model_call_started(self, call: int, step: str, model: ModelDocument, operation: Operation, *, max_tokens: int | None) -> None:
        """Nothing."""

    def model_call_ended(
        self, call: int, *, seconds: float, usage: Usage, finish_reason: str | None, answered_by: str, error: BaseException | None
    ) -> None:
        """Nothing."""


class Observers:
    """Several observers as one: what starts is told in their order, what ends in the reverse."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def run_started(self, document: TaskDocument) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.run_started(document)

    def run_ended(self, document: TaskDocument, *, seconds: float, usage: Usage, error: AgentTaskError | None) -> None:
        """Tell all."""
        for observer in reversed(self._observers):
            observer.run_ended(document, seconds=seconds, usage=usage, error=error)

    def step_started(self, index: int, step: Step) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.step_started(index, step)

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:
        """Tell all."""
        for observer in reversed(self._observers):
            observer.step_ended(index, step, seconds=seconds, error=error)

    def step_skipped(self, index: int, step: Step, *, why: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.step_skipped(index, step, why=why)

    def step_taken(self, index: int, step: Step, *, attempt: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.step_taken(index, step, attempt=attempt)

    def items_taken(self, index: int, step: Step, *, taken: int, count: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.items_taken(index, step, taken=taken, count=count)

    def item_started(self, index: int, step: Step, item: int, count: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.item_started(index, step, item, count)

    def item_ended(self, index: int, step: Step, item: int, count: int, *, seconds: float, error: AgentTaskError | None) -> None:
        """Tell all."""
        for observer in reversed(self._observers):
            observer.item_ended(index, step, item, count, seconds=seconds, error=error)

    def try_failed(self, index: int, step: Step, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.try_failed(index, step, item, tries=tries, error=error, pause=pause)

    def model_call_started(self, call: int, step: str, model: ModelDocument, operation: Operation, *, max_tokens: int | None) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.model_call_started(call, step, model, operation, max_tokens=max_tokens)

    def model_call_ended(
        self, call: int, *, seconds: float, usage: Usage, finish_reason: str | None, answered_by: str, error: BaseException | None
    ) -> None:
        """Tell all."""
        for observer in reversed(self._observers):
            observer.model_call_ended(call, seconds=seconds, usage=usage, finish_reason=finish_reason, answered_by=answered_by, error=error)
