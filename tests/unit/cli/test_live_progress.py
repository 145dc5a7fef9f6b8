"""Progress on a terminal: what a person sees when the run has ended."""

import io
import re

import msgspec
import pytest
from rich.console import Console

from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.api.errors import StepFailed
from agenttask.cli.progress import Board, TaskProgress
from agenttask.plugin.llm import Usage

DOCUMENT = msgspec.convert(
    {
        "task": {"name": "demo", "namespace": "n", "uid": "u"},
        "spec": {"steps": [{"name": name, "read": {"paths": ["x"]}} for name in ("one", "bold", "three", "four")]},
    },
    TaskDocument,
)
MODEL = ModelDocument(name="small", client="c", model="m")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def board(stream: io.StringIO) -> Board:
    return Board(Console(file=stream, force_terminal=True, color_system=None, width=100), clock=lambda: 5.0)


@pytest.fixture
def progress(board: Board) -> TaskProgress:
    return board.task("demo")


def test_the_last_picture_has_every_step_with_its_end(progress: TaskProgress, stream: io.StringIO) -> None:
    steps = DOCUMENT.spec.steps
    progress.run_started(DOCUMENT)
    for index in (0, 1):
        progress.step_started(index, steps[index])
    progress.model_call_started(1, "one", MODEL, "chat", max_tokens=5)
    progress.line("step one", "two\nlines [red]")
    usage = Usage(calls=1, input_tokens=7, output_tokens=9)
    progress.model_call_ended(1, seconds=1, usage=usage, finish_reason=None, answered_by="", error=None)
    progress.step_ended(0, steps[0], seconds=1.25, error=None)
    progress.step_ended(1, steps[1], seconds=0.5, error=StepFailed("exited 3: [red]\nbroken"))
    progress.step_skipped(2, steps[2], why="because")
    progress.run_ended(DOCUMENT, seconds=2, usage=Usage(), error=None)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())  # without the cursor's moves
    assert r"step one: two\nlines [red]" in text
    picture = [line.split() for line in text.splitlines() if line.strip()][-4:]
    assert picture == [
        ["✓", "one", "read", "1.2", "s", "7", "tokens", "in,", "9", "out"],
        ["✗", "bold", "read", "0.5", "s", "exited", "3:", r"[red]\nbroken"],
        ["-", "three", "read", "because"],
        ["·", "four", "read"],
    ]


def picture(stream: io.StringIO, lines: int) -> list[list[str]]:
    """The last lines that are on the screen."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())  # without the cursor's moves
    return [line.split() for line in text.splitlines() if line.strip()][-lines:]


def test_several_tasks_are_shown_with_their_steps_below_them(board: Board, stream: io.StringIO) -> None:
    steps = DOCUMENT.spec.steps
    one, two, three = board.task("a"), board.task("b"), board.task("c")
    one.run_started(DOCUMENT)
    two.run_started(DOCUMENT)
    one.step_started(0, steps[0])
    one.step_ended(0, steps[0], seconds=1.25, error=None)
    one.run_ended(DOCUMENT, seconds=2, usage=Usage(), error=None)
    three.run_ended(DOCUMENT, seconds=0, usage=Usage(), error=StepFailed("refused"))
    two.run_ended(DOCUMENT, seconds=3, usage=Usage(), error=StepFailed("x"))
    shown = picture(stream, 11)
    assert shown[0] == ["✓", "a", "task", "2.0", "s"]
    assert shown[1] == ["✓", "one", "read", "1.2", "s"]
    assert shown[5] == ["✗", "b", "task", "3.0", "s", "StepFailed"]
    assert shown[10] == ["✗", "c", "task", "0.0", "s", "StepFailed"]


def test_of_many_tasks_only_those_that_run_show_their_steps(board: Board, stream: io.StringIO) -> None:
    tasks = [board.task(f"t{number}") for number in range(9)]
    for task in tasks:
        task.run_started(DOCUMENT)
    for task in tasks:
        task.run_ended(DOCUMENT, seconds=2, usage=Usage(), error=None)
    assert picture(stream, 9) == [["✓", f"t{number}", "task", "2.0", "s"] for number in range(9)]


def test_a_running_step_shows_its_time_and_what_it_waits_for(progress: TaskProgress, stream: io.StringIO) -> None:
    progress.run_started(DOCUMENT)
    progress.step_started(0, DOCUMENT.spec.steps[0])
    progress.model_call_started(1, "one", MODEL, "embed", max_tokens=None)
    progress.run_ended(DOCUMENT, seconds=2, usage=Usage(), error=None)
    assert "0.0 s embed with small" in stream.getvalue().replace("  ", " ")


def test_a_task_that_was_refused_has_no_picture(progress: TaskProgress, stream: io.StringIO) -> None:
    progress.step_skipped(0, DOCUMENT.spec.steps[0], why="refused")
    progress.run_ended(DOCUMENT, seconds=0, usage=Usage(), error=StepFailed("x"))
    assert stream.getvalue().strip() == ""


def test_items_tries_and_what_was_taken_over_are_shown(progress: TaskProgress, stream: io.StringIO) -> None:
    steps = DOCUMENT.spec.steps
    progress.run_started(DOCUMENT)
    progress.step_taken(0, steps[0], attempt=2)
    progress.step_started(1, steps[1])
    progress.items_taken(1, steps[1], taken=3, count=7)
    for item in range(2):
        progress.item_started(1, steps[1], item, 7)
        progress.item_ended(1, steps[1], item, 7, seconds=1, error=StepFailed("exited 3") if item else None)
    progress.step_started(2, steps[2])
    progress.try_failed(2, steps[2], None, tries=1, error=StepFailed("exited 4"), pause=1.0)
    progress.run_ended(DOCUMENT, seconds=2, usage=Usage(), error=None)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    picture = [" ".join(line.split()[1:]) for line in text.splitlines() if line.strip()][-4:]
    assert picture[:3] == [
        "one read ended in attempt 2",
        "bold read 0.0 s 5/7 item 2: exited 3",
        "three read 0.0 s try 1 failed: exited 4",
    ]
