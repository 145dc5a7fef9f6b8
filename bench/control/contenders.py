"""Who runs against whom: how each is started, and what it is given to do."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.control import objects
from bench.control.processes import answers
from bench.control.stage import QPS, ROOT, Stage, controller_manager, free_port
from msgspec import Struct


class Start(Struct, frozen=True, kw_only=True):
    """A contender's process: what to run, and when it is ready."""

    command: list[str]
    environ: dict[str, str] = {}
    ready: Callable[[], bool] = lambda: True


class Contender(Struct, frozen=True, kw_only=True):
    """`start` makes its process; `body` is what it is given, by a pod of ours; `owners` is where that is POSTed."""

    name: str
    owners: str
    start: Callable[[Stage, dict[str, Any], list[str]], Start]
    body: Callable[[dict[str, Any]], bytes]
    completes: bool = True
    """Whether it writes the end of a task."""


def _ours(stage: Stage, _pod: dict[str, Any], settings: list[str]) -> Start:
    port = free_port()
    words = [word for setting in (f"probePort={port}", *settings) for word in ("--set", setting)]
    return Start(
        command=[sys.executable, "-m", "bench.control.probe", *words],
        environ={
            "KUBECONFIG": str(stage.kubeconfig("contender")),
            "BENCH_LAG": str(lag_file(stage)),
            "PYTHONPATH": ":".join(str(ROOT / folder) for folder in ("", "operator", "plugins")),
        },
        ready=lambda: answers(f"http://127.0.0.1:{port}/readyz"),
    )


def _jobs(*flags: str) -> Callable[[Stage, dict[str, Any], list[str]], Start]:
    def start(stage: Stage, _pod: dict[str, Any], _settings: list[str]) -> Start:
        command, address = controller_manager(stage, "contender", "--controllers=job-controller", *flags)
        return Start(command=command, ready=lambda: answers(address))

    return start


def _bare(stage: Stage, pod: dict[str, Any], _settings: list[str]) -> Start:
    body = stage.folder / "bare-pod.json"
    body.write_bytes(objects.bare_pod(pod))
    environ = {"PYTHONPATH": str(ROOT), **stage.access("contender").environment()}
    return Start(command=[sys.executable, "-m", "bench.control.bare_loop", str(body)], environ=environ)


def lag_file(stage: Stage) -> Path:
    """Where our controller's loop lag is written."""
    return stage.folder / "lag.json"


OURS: Final = Contender(name="agenttask", owners=objects.TASKS, start=_ours, body=lambda _pod: objects.task())
TUNED: Final = Contender(name="Job, tuned", owners=objects.JOBS, start=_jobs(*QPS, "--concurrent-job-syncs=50"), body=objects.job)
DEFAULT: Final = Contender(
    name="Job, default",
    owners=objects.JOBS,
    start=_jobs("--kube-api-qps=20", "--kube-api-burst=30", "--concurrent-job-syncs=5"),
    body=objects.job,
)
BARE: Final = Contender(name="bare loop", owners=objects.TASKS, start=_bare, body=lambda _pod: objects.task(), completes=False)
CONTENDERS: Final = {one.name: one for one in (OURS, TUNED, DEFAULT, BARE)}
