"""`agenttask-runner`: the entry point of a task's pod; with `--check` it tries this image (runner/selfcheck.py).

The order matters. Credentials leave the environment first; then a handler for SIGTERM, because the kernel drops
signals that process 1 of a container does not handle; and only then the rest of the program, and the plugins, are
imported.
"""

import os
import signal
import sys
from collections.abc import Callable, MutableMapping
from types import FrameType

from agenttask.runner.credentials import adopt_orphans, close_memory, take_credentials
from agenttask.runner.descendants import kill_descendants
from agenttask.runner.turns import short_turns

CHECK = "--check"


def main() -> int:
    """Run the mounted task document; see `bootstrap.run_document` for the exit codes."""
    credentials = take_credentials(os.environ)
    close_memory()
    adopt_orphans()
    signal.signal(signal.SIGTERM, _leave)

    from agenttask.runner.bootstrap import run_document  # after the environment is clean

    try:
        with short_turns():
            if CHECK in sys.argv[1:]:
                return _check(lambda environ: run_document(credentials, environ))
            return run_document(credentials, os.environ)
    finally:
        kill_descendants(os.getpid())


def _check(run: Callable[[MutableMapping[str, str]], int]) -> int:
    """Print what this image keeps of the contract; 0 when all of it, else 2."""
    from agenttask.runner.selfcheck import check

    kept = True
    for finding in check(os.environ, run):
        sys.stdout.write(f"{finding.line()}\n")
        kept = kept and not finding.problem
    return 0 if kept else 2


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Nothing runs yet: just go."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
