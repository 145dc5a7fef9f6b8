"""versitygw, an S3 server over a folder (40 MB). `python -m tests.s3.install` builds it ahead of the tests."""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.go_install import go_install

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


def versitygw(say: Callable[[str], None], *, cache: Path | None = None) -> Path:
    """The program; errors are those of `go_install`."""
    return go_install(MODULE, say, cache=cache)


if __name__ == "__main__":
    sys.stdout.write(f"{versitygw(lambda line: print(line, file=sys.stderr, flush=True))}\n")  # noqa: T201 - a command
