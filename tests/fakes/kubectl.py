"""kubectl against the test cluster, for tests that look at the API server as a user does."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_READY_SECONDS = 120.0
TOOLS = Path(__file__).parents[1] / "cluster" / "bin"


def find(program: str) -> str | None:
    """A program on PATH, or among those that the test cluster was built with."""
    return shutil.which(program) or shutil.which(program, path=str(TOOLS))


class Kubectl:
    """Runs kubectl in one namespace; answers are (exit status, standard output, standard error)."""

    def __init__(self, program: str, namespace: str) -> None:
        self.program = program
        self.namespace = namespace

    def __call__(self, *args: str, stdin: object = None) -> subprocess.CompletedProcess[str]:
        """One command; `stdin` is sent as JSON."""
        return subprocess.run(
            [self.program, "-n", self.namespace, *args],
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def must(self, *args: str, stdin: object = None) -> str:
        """Standard output of a command that has to succeed."""
        done = self(*args, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    def dry(self, document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Ask the server whether it would take a new object; nothing is stored."""
        return self("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=document)


def unreachable(program: str | None) -> str | None:
    """Why no cluster can be used, or None."""
    if program is None:
        return "kubectl is neither on PATH nor in tests/cluster/bin: run `make cluster-up`"
    if "KUBECONFIG" not in os.environ:
        return "KUBECONFIG is not set: run `make cluster-up`"
    problem = not_ready(program, os.environ)
    return None if problem is None else f"the cluster does not answer: {problem}"


def not_ready(program: str, environ: Mapping[str, str]) -> str | None:
    """What kubectl says of a cluster that cannot be used, or None. One that answers, and is only not ready, is waited for."""
    end = time.monotonic() + _READY_SECONDS
    while True:
        command = [program, "get", "--raw", "/readyz"]
        done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return None
        waits = "Error from server" in done.stderr and "(Forbidden)" not in done.stderr
        if not waits or time.monotonic() > end:
            return done.stderr.strip()
        time.sleep(0.5)
