"""The pod's log: one line for the start and the end of the task, of each step and of each model call.

Written for `kubectl logs`: the time, what it is about, and what happened. Prompts, answers and file contents never
enter it. A message may come from outside (a command's last words), so line breaks and control characters are shown as
escapes: nobody can forge a line.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.api.errors import AgentTaskError
from agenttask.api.report import shorten
from agenttask.api.steps import Step
from agenttask.plugin.llm import Usage
from agenttask.runner.log_queue import LineStream
from agenttask.runner.observer import NullObserver, Operation

_LINE_CHARACTERS = 2000


class Log(NullObserver):
    """Lines on a stream; `now` is Unix seconds."""

    def __init__(self, stream: LineStream, now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        self._calls: dict[int, str] = {}

    def line(self, about: str, message: str) -> None:
        """One line; it is flushed at once, as the process may be killed at any moment."""
        time = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._stream.write(f"{time} {one_line(f'{about}: {message}')}\n")
        self._stream.flush()

    def run_started(self, document: TaskDocument) -> None:
        """The task's name and what is to be done."""
        steps = len(document.spec.steps)
        self.line(f"task {document.task.name}", f"attempt {document.attempt} started, {steps} step{'' if steps == 1 else 's'}")

    def run_ended(self, document: TaskDocument, *, seconds: float, usage: Usage, error: AgentTaskError | None) -> None:
        """The verdict, with reason and usage."""
        tokens = f", {_usage(usage)}" if usage.calls else ""
        verdict = "succeeded" if error is None else f"failed with {error.reason}"
        tail = "" if error is None else f": {error}"
        self.line(f"task {document.task.name}", f"{verdict} after {seconds:.3f} s{tokens}{tail}")

    def step_started(self, index: int, step: Step) -> None:  # noqa: ARG002 - the port's signature
        """The step's name and kind."""
        self.line(f"step {step.name}", f"started ({step.kind})")

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:  # noqa: ARG002 - the port's signature
        """How long it took and what went wrong."""
        self.line(f"step {step.name}", f"succeeded after {seconds:.3f} s" if error is None else f"failed after {seconds:.3f} s: {error}")

    def step_skipped(self, index: int, step: Step, *, why: str) -> None:  # noqa: ARG002 - the port's signature
        """Why it will not start."""
        self.line(f"step {step.name}", f"skipped: {why}")

    def step_taken(self, index: int, step: Step, *, attempt: int) -> None:  # noqa: ARG002 - the port's signature
        """That it does not run."""
        self.line(f"step {step.name}", f"ended in attempt {attempt}, does not run again")

    def items_taken(self, index: int, step: Step, *, taken: int, count: int) -> None:  # noqa: ARG002 - the port's signature
        """How many do not run."""
        self.line(f"step {step.name}", f"{taken} of {count} items ended in an earlier attempt, and do not run again")

    def item_ended(
        self,
        index: int,  # noqa: ARG002 - the port's signature
        step: Step,
        item: int,
        count: int,
        *,
        seconds: float,
        error: AgentTaskError | None,
    ) -> None:
        """How one item went; its start is no line, as a step may have thousands."""
        verdict = f"succeeded after {seconds:.3f} s" if error is None else f"failed after {seconds:.3f} s: {error}"
        self.line(f"{item_name(step.name, item)} of {count}", verdict)

    def try_failed(self, index: int, step: Step, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:  # noqa: ARG002 - the port's signature
        """What went wrong, and when it is tried again."""
        limit = step.retry.limit + 1 if step.retry is not None else 1
        about = f"step {step.name}" if item is None else item_name(step.name, item)
        self.line(about, f"try {tries} of {limit} failed: {error}; the next in {pause:.1f} s")

    def model_call_started(
        self,
        call: int,
        step: str,  # noqa: ARG002 - the port's signature
        model: ModelDocument,
        operation: Operation,
        *,
        max_tokens: int | None,  # noqa: ARG002
    ) -> None:
        """Kept until the answer is there: one line a call is enough."""
        self._calls[call] = f"{operation} with model {model.name}"

    def model_call_ended(
        self,
        call: int,
        *,
        seconds: float,
        usage: Usage,
        finish_reason: str | None,  # noqa: ARG002 - the port's signature
        answered_by: str,  # noqa: ARG002
        error: BaseException | None,
    ) -> None:
        """Tokens and time of one call."""
        end = _usage(usage) if error is None else f"failed: {str(error) or type(error).__name__}"
        self.line(f"call {call}", f"{self._calls.pop(call, 'model')} took {seconds:.3f} s, {end}")


def item_name(step: str, item: int) -> str:
    """How the log calls an item; it counts from 1, as messages do."""
    return f"step {step} item {item + 1}"


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, cut to a line's length."""
    return shorten("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text), _LINE_CHARACTERS)


def _usage(usage: Usage) -> str:
    calls = f"{usage.calls} call{'' if usage.calls == 1 else 's'}"
    return f"{calls}, {usage.input_tokens} input and {usage.output_tokens} output tokens"
