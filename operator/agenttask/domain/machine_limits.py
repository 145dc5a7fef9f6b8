"""What to do about a machine that has no more to give, beside the words of its operating system.

`No space left on device` and `Too many open files` say what happened and not what helps; every message of ours does.
"""

import errno
from collections.abc import Mapping
from typing import Final

DISK_REMEDY: Final = "write less, or raise `workspace.sizeLimit`"
_FILES_REMEDY: Final = "lower `execution.maxConcurrentSteps`, or raise the limit on open files"
_REMEDIES: Final[Mapping[int | None, str]] = {
    errno.ENOSPC: DISK_REMEDY,
    errno.EDQUOT: DISK_REMEDY,
    errno.EMFILE: _FILES_REMEDY,
    errno.ENFILE: _FILES_REMEDY,
}


def explained(error: OSError) -> str:
    """The system's words, and what helps where that is known."""
    remedy = _REMEDIES.get(error.errno)
    return f"{error.strerror or error}{'' if remedy is None else f'; {remedy}'}"
