"""Live progress on a terminal: a line a step, its time running, its end. Elsewhere the log's plain lines stand for it."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.api.errors import AgentTaskError
from agenttask.api.steps import Step
from agenttask.plugin.llm import Usage
from agenttask.runner.log import one_line
from agenttask.runner.observer import NullObserver, Operation

State = Literal["pending", "running", "succeeded", "failed", "skipped"]
_MARKS = {"pending": "[dim]·[/]", "succeeded": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[yellow]-[/]"}


class _Line(Struct):
    name: str
    kind: str
    state: State = "pending"
    started: float = 0
    seconds: float | None = None
    message: str = ""


class LiveProgress(NullObserver):
    """The steps of one run, redrawn eight times a second while it lasts."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._spinner = Spinner("dots")
        self._lines: list[_Line] = []
        self._calls: dict[int, str] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=8)

    def line(self, about: str, message: str) -> None:
        """A line above the steps, as a step writes it to the log."""
        self._console.print(f"[dim]{escape(one_line(f'{about}: {message}'))}[/]")

    def run_started(self, document: TaskDocument) -> None:
        """Show all steps."""
        self._lines = [_Line(name=step.name, kind=step.kind) for step in document.spec.steps]
        self._live.start()

    def run_ended(self, document: TaskDocument, *, seconds: float, usage: Usage, error: AgentTaskError | None) -> None:  # noqa: ARG002 - the port's signature
        """Leave the last state on the screen."""
        self._live.stop()

    def step_started(self, index: int, step: Step) -> None:  # noqa: ARG002
        """The spinner turns."""
        self._lines[index].state, self._lines[index].started = "running", self._clock()

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:  # noqa: ARG002
        """A mark, the time, and what went wrong."""
        line = self._lines[index]
        line.state, line.seconds = ("succeeded", seconds) if error is None else ("failed", seconds)
        if error is not None:
            line.message = one_line(str(error))

    def step_skipped(self, index: int, step: Step, *, why: str) -> None:  # noqa: ARG002
        """A mark, and why."""
        if self._lines:
            self._lines[index].state, self._lines[index].message = "skipped", why

    def model_call_started(
        self,
        call: int,
        step: str,
        model: ModelDocument,
        operation: Operation,
        *,
        max_tokens: int | None,  # noqa: ARG002
    ) -> None:
        """What the step waits for."""
        self._calls[call] = step
        self._say(step, f"{operation} with {model.name}")

    def model_call_ended(
        self,
        call: int,
        *,
        seconds: float,  # noqa: ARG002
        usage: Usage,
        finish_reason: str | None,  # noqa: ARG002
        answered_by: str,  # noqa: ARG002
        error: BaseException | None,
    ) -> None:
        """The call's tokens."""
        step = self._calls.pop(call)
        self._say(step, "" if error is not None else f"{usage.input_tokens} tokens in, {usage.output_tokens} out")

    def _say(self, step: str, message: str) -> None:
        for line in self._lines:
            if line.name == step:
                line.message = message

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        for line in self._lines:
            mark: RenderableType = self._spinner if line.state == "running" else Text.from_markup(_MARKS[line.state])
            seconds = self._clock() - line.started if line.state == "running" else line.seconds
            table.add_row(
                mark, escape(line.name), f"[dim]{line.kind}[/]", "" if seconds is None else f"{seconds:.1f} s", escape(line.message)
            )
        return Group(table)
