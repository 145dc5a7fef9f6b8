"""What steps hand on, bounded: outputs are kept in memory, rendered into templates, and go into checkpoints."""

from typing import Any

import msgspec

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import AgentTaskError, OutputTooLarge, StepFailed
from agenttask.api.report import ERROR_MESSAGE_CHARACTERS, shorten
from agenttask.domain.utf8 import utf8_length
from agenttask.plugin.step import StepError, StepOutput

_encode = msgspec.json.Encoder().encode


def bounded(output: StepOutput) -> int:
    """The output's size: of its text, its JSON or its files, whichever is largest.

    Raises:
        OutputTooLarge: more than later steps can be handed.
        StepFailed: its `json` is no JSON.
    """
    sizes = _sizes(output)
    for what, size in sizes.items():
        if size > MAX_STEP_TEXT_BYTES:
            raise OutputTooLarge(f"the step's {what} {size} bytes, at most {MAX_STEP_TEXT_BYTES} can be handed on; write it to a file")
    return max(sizes.values()) + (0 if output.error is None else len(output.error.message))


def weight(output: StepOutput) -> int:
    """Roughly how much work it is to render with it."""
    return sum(_sizes(output).values())


def _sizes(output: StepOutput) -> dict[str, int]:
    return {
        "text has": utf8_length(output.text, "surrogatepass"),
        "JSON has": _json_size(output.json),
        "files have": sum(len(content) for content in output.files.values()),
    }


def _json_size(value: Any) -> int:
    if value is None:
        return 0
    try:
        return len(_encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise StepFailed(f"the step's `json` is no JSON: {error}") from error


class Gathered:
    """The outputs of a `forEach` step's items, by position, and what they come to."""

    def __init__(self, count: int) -> None:
        self._results: list[StepOutput | None] = [None] * count
        self._size = 0
        self._failed = 0
        self._first: tuple[int, StepError] | None = None
        self.ended = 0

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(self._results)

    @property
    def error(self) -> StepError | None:
        """How many have failed, and how the earliest of them did."""
        if self._first is None:
            return None
        position, first = self._first
        return StepError(reason=first.reason, message=f"{self._failed} of {self.count} items failed; item {position + 1}: {first.message}")

    def __getitem__(self, position: int) -> StepOutput | None:
        return self._results[position]

    def put(self, position: int, output: StepOutput) -> None:
        """One item has ended.

        Raises:
            OutputTooLarge: all of them together are more than a step can hand on.
        """
        self._size += bounded(output) + 1
        if self._size > MAX_STEP_TEXT_BYTES:
            raise OutputTooLarge(
                f"the items hand on more than {MAX_STEP_TEXT_BYTES} bytes together, after {self.ended + 1} of {len(self._results)}; "
                "let them write to files"
            )
        self._results[position] = output
        self.ended += 1
        if output.error is not None:
            self._failed += 1
            if self._first is None or position < self._first[0]:
                self._first = (position, output.error)

    def output(self) -> StepOutput:
        """The step's: texts of those that did not fail joined by line breaks, `json` a list where any has one."""
        results = [StepOutput() if result is None else result for result in self._results]
        return StepOutput(
            text="\n".join(result.text for result in results if result.error is None),
            json=[result.json for result in results] if any(result.json is not None for result in results) else None,
            results=tuple(results),
            error=self.error,
        )


def as_step_error(error: AgentTaskError) -> StepError:
    """How later steps see a failure; its message is as long as status would show."""
    return StepError(reason=error.reason, message=shorten(str(error), ERROR_MESSAGE_CHARACTERS))


def located(error: AgentTaskError, where: str) -> AgentTaskError:
    """The same error, whose message begins with where it was."""
    copy = type(error).__new__(type(error))
    copy.__dict__.update(error.__dict__)
    copy.args = (f"{where}: {error}",)
    copy.__cause__ = error
    return copy
