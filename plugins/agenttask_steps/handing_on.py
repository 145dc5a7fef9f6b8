"""What a step hands to later steps is bounded, and files are called as the task calls them."""

from pathlib import Path

from agenttask.api.constants import MAX_STEP_TEXT_BYTES, WORKSPACE_PATH
from agenttask.api.errors import OutputTooLarge
from agenttask.domain.utf8 import utf8_length


class Room:
    """The bytes that one step may still hand on, `limit` in all."""

    def __init__(self, what: str, remedy: str, *, limit: int = MAX_STEP_TEXT_BYTES) -> None:
        self._what = what
        self._remedy = remedy
        self._taken = 0
        self._limit = limit

    def take(self, text: str) -> str:
        """Count `text`, and give it back.

        Raises:
            OutputTooLarge: with it there is more than a step may hand on.
        """
        self._taken += utf8_length(text, "surrogatepass")
        if self._taken > self._limit:
            raise OutputTooLarge(f"{self._what} more than {self._limit} bytes, the most that a step may hand on; {self._remedy}")
        return text


def name_of(path: Path, workspace: Path) -> str:
    """The name of a file for later steps: relative below the workspace, else the whole path."""
    for root in (workspace, Path(WORKSPACE_PATH)):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return str(path)
