"""kube-router, whose policy controller k3s uses too (59 MB). `python -m tests.policies.install` builds it ahead of the tests."""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.go_install import go_install

MODULE = "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0"


def kube_router(say: Callable[[str], None], *, cache: Path | None = None) -> Path:
    """The program; errors are those of `go_install`."""
    return go_install(MODULE, say, cache=cache)


if __name__ == "__main__":
    sys.stdout.write(f"{kube_router(lambda line: print(line, file=sys.stderr, flush=True))}\n")  # noqa: T201 - a command
