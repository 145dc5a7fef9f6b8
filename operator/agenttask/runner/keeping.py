"""The port through which a run takes over what an earlier attempt has finished, and leaves what it finishes to a later one."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from agenttask.api.checkpoint import KeptFile
from agenttask.plugin.step import StepOutput


class TakenOver(Struct, frozen=True, kw_only=True):
    """A step that an earlier attempt has ended: its output (what later steps see), and why it was skipped, if it was."""

    output: StepOutput
    skipped: str | None
    attempt: int


class Keeper(Protocol):
    """Called in the coroutine of the step or item; an AgentTaskError of a method fails it."""

    async def take_over(self, index: int) -> TakenOver | None:
        """Asked once a step, when its needs have ended; None: it has to run."""
        ...

    async def take_over_item(self, index: int, place: int, item: Any) -> StepOutput | None:
        """Asked once an item, before any of the step starts; None: it has to run."""
        ...

    async def keep_files(self, patterns: Sequence[str]) -> tuple[KeptFile, ...] | None:
        """What rendered `keepFiles` find; None without patterns."""
        ...

    def step_ended(self, index: int, output: StepOutput, files: tuple[KeptFile, ...] | None = None) -> None:
        """The step has ended and the task goes on; `output.error` is set where it failed."""
        ...

    def step_skipped(self, index: int, why: str) -> None:
        """The step's `when` was false."""
        ...

    def item_ended(self, index: int, place: int, item: Any, output: StepOutput, files: tuple[KeptFile, ...] | None = None) -> None:
        """One item has succeeded."""
        ...
