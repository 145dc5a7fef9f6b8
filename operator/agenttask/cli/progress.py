"""Progress on a terminal: a line for each step of each task, redrawn while they run. Elsewhere the log's plain lines stand for it."""

from collections.abc import Callable, Iterator
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
_OPEN_TASKS = 8
"""So many tasks show their steps; with more at once only those that run do, and the rest is a line each."""


class Line(Struct):
    """One step or task as it is shown."""

    name: str
    kind: str
    state: State = "pending"
    started: float = 0
    seconds: float | None = None
    ended: int = 0
    items: int = 0
    message: str = ""


class Board:
    """The picture of all tasks of a run, redrawn eight times a second while one of them runs."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self.clock = clock
        self._spinner = Spinner("dots")
        self._tasks: list[TaskProgress] = []
        self._live = Live(get_renderable=self._picture, console=console, refresh_per_second=8)
        self._running = 0

    def task(self, name: str) -> "TaskProgress":
        """The part of one task; its place is that of this call."""
        progress = TaskProgress(self, name)
        self._tasks.append(progress)
        return progress

    def say(self, about: str, message: str) -> None:
        """A line above the picture, as a step writes it to the log."""
        self._console.print(f"[dim]{escape(one_line(f'{about}: {message}'))}[/]")

    def started(self) -> None:
        """A task runs: draw."""
        self._running += 1
        if self._running == 1:
            self._live.start()

    def ended(self) -> None:
        """One task less; with the last one the picture stands still."""
        self._running -= 1
        if self._running == 0:
            self._live.stop()

    def _picture(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        several = len(self._tasks) > 1
        for task in self._tasks:
            if several:
                self._row(table, task.whole, "")
            if not several or len(self._tasks) <= _OPEN_TASKS or task.whole.state == "running":
                for line in task.lines:
                    self._row(table, line, "  " if several else "")
        return Group(table)

    def _row(self, table: Table, line: Line, indent: str) -> None:
        mark: RenderableType = self._spinner if line.state == "running" else Text.from_markup(_MARKS[line.state])
        seconds = self.clock() - line.started if line.state == "running" else line.seconds
        shown = "" if seconds is None else f"{seconds:.1f} s"
        items = f"{line.ended}/{line.items} " if line.items else ""
        table.add_row(mark, f"{indent}{escape(line.name)}", f"[dim]{line.kind}[/]", shown, escape(f"{items}{line.message}"))


class TaskProgress(NullObserver):
    """What a board shows of one task."""

    def __init__(self, board: Board, name: str) -> None:
        self._board = board
        self.whole = Line(name=name, kind="task")
        self.lines: list[Line] = []
        self._calls: dict[int, str] = {}
        self._drawn = False

    def line(self, about: str, message: str) -> None:
        """A line of the task's log."""
        self._board.say(f"{self.whole.name}: {about}", message)

    def run_started(self, document: TaskDocument) -> None:
        """Show all steps."""
        self.lines = [Line(name=step.name, kind=step.kind) for step in document.spec.steps]
        self.whole.state, self.whole.started, self._drawn = "running", self._board.clock(), True
        self._board.started()

    def run_ended(self, document: TaskDocument, *, seconds: float, usage: Usage, error: AgentTaskError | None) -> None:  # noqa: ARG002 - the port's signature
        """Leave the last state on the screen."""
        self.whole.state, self.whole.seconds = ("succeeded" if error is None else "failed"), seconds
        self.whole.message = "" if error is None else f"{error.reason}"
        if self._drawn:
            self._board.ended()

    def step_started(self, index: int, step: Step) -> None:  # noqa: ARG002
        """The spinner turns."""
        self.lines[index].state, self.lines[index].started = "running", self._board.clock()

    def step_ended(self, index: int, step: Step, *, seconds: float, error: AgentTaskError | None) -> None:  # noqa: ARG002
        """A mark, the time, and what went wrong."""
        line = self.lines[index]
        line.state, line.seconds = ("succeeded", seconds) if error is None else ("failed", seconds)
        if error is not None:
            line.message = one_line(str(error))

    def step_skipped(self, index: int, step: Step, *, why: str) -> None:  # noqa: ARG002
        """A mark, and why."""
        if self.lines:
            self.lines[index].state, self.lines[index].message = "skipped", why

    def step_taken(self, index: int, step: Step, *, attempt: int) -> None:  # noqa: ARG002
        """A mark, and where it ended."""
        self.lines[index].state, self.lines[index].message = "succeeded", f"ended in attempt {attempt}"

    def items_taken(self, index: int, step: Step, *, taken: int, count: int) -> None:  # noqa: ARG002
        """They count as ended."""
        self.lines[index].ended, self.lines[index].items = taken, count

    def item_started(self, index: int, step: Step, item: int, count: int) -> None:  # noqa: ARG002
        """How many items there are."""
        self.lines[index].items = count

    def item_ended(self, index: int, step: Step, item: int, count: int, *, seconds: float, error: AgentTaskError | None) -> None:  # noqa: ARG002
        """One more has ended."""
        self.lines[index].ended += 1
        self.lines[index].message = "" if error is None else one_line(f"item {item + 1}: {error}")

    def try_failed(self, index: int, step: Step, item: int | None, *, tries: int, error: AgentTaskError, pause: float) -> None:  # noqa: ARG002
        """What is tried again."""
        self.lines[index].message = one_line(f"try {tries} failed: {error}")

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
        for line in self._named(step):
            line.message = message

    def _named(self, step: str) -> Iterator[Line]:
        return (line for line in self.lines if line.name == step)
