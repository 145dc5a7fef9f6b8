"""What a shell sees of a run: one number for each kind of end, so that a script can tell "try later" from "never".

Documented in docs/cli.md from this table; a test holds every terminal reason to a number.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from agenttask.api.errors import AgentTaskError
from agenttask.api.reasons import Reason

SUCCEEDED: Final = 0
FAILED: Final = 1
INVALID: Final = 2
STOPPED: Final = 130

MEANINGS: Final[Mapping[int, str]] = {
    SUCCEEDED: "Every task succeeded.",
    FAILED: "A step failed by itself: a command, a missing file, a time-out.",
    INVALID: "A file, an argument or the task is wrong; nothing ran, or nothing more.",
    3: "A model is unavailable or limits its calls: the same may succeed later.",
    4: "A model refused the request, or answered something that is no answer.",
    5: "Memory or the device that the task insists on is not there.",
    6: "A deadline of the task passed.",
    7: "The output is larger than its channel holds.",
    STOPPED: "Stopped from the terminal, or by SIGTERM.",
}

_CODES: Final[Mapping[Reason, int]] = {
    Reason.INVALID_TASK: INVALID,
    Reason.INVALID_TEMPLATE: INVALID,
    Reason.UNKNOWN_PLUGIN: INVALID,
    Reason.MODEL_UNAVAILABLE: 3,
    Reason.RATE_LIMITED: 3,
    Reason.MODEL_REJECTED: 4,
    Reason.OUT_OF_MEMORY: 5,
    Reason.DEVICE_UNAVAILABLE: 5,
    Reason.DEADLINE_EXCEEDED: 6,
    Reason.SOFT_DEADLINE_REACHED: 6,
    Reason.OUTPUT_TOO_LARGE: 7,
    Reason.LOST: STOPPED,
}


def of_error(error: AgentTaskError | None) -> int:
    """The number of one task's end."""
    return SUCCEEDED if error is None else _CODES.get(error.reason, FAILED)


def of_errors(errors: Sequence[AgentTaskError | None]) -> int:
    """The number of several: that of the first task, in the order of the files, that did not succeed."""
    return next((code for code in map(of_error, errors) if code != SUCCEEDED), SUCCEEDED)
