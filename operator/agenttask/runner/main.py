"""`agenttask-runner`: the entry point of a task's pod.

The order matters. Credentials leave the environment first; then a handler for SIGTERM, because the kernel drops
signals that process 1 of a container does not handle; and only then the rest of the program, and the plugins, are
imported.
"""

import os
import signal
import sys
from types import FrameType

from agenttask.runner.credentials import adopt_orphans, close_memory, take_credentials
from agenttask.runner.descendants import kill_descendants


def main() -> int:
    """Run the mounted task document; see `bootstrap.run_document` for the exit codes."""
    credentials = take_credentials(os.environ)
    close_memory()
    adopt_orphans()
    signal.signal(signal.SIGTERM, _leave)

    from agenttask.runner.bootstrap import run_document  # after the environment is clean

    try:
        return run_document(credentials, os.environ)
    finally:
        kill_descendants(os.getpid())


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Nothing runs yet: just go."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
