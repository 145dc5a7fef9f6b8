"""Ours alone with very many tasks: memory, and how soon a controller that starts anew makes the next pod.

Waiting tasks lack an input; finished ones were run here, with their pods still there. A backlog is what has come while no
controller was there.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, Final, Literal

from bench.control import objects, procfs
from bench.control.contenders import OURS
from bench.control.observer import Observer, observing
from bench.control.processes import Running, started
from bench.control.race import CONTENDER, Load, Run, apply, contending, run_on, set_stage
from bench.control.stage import Stage, Storage
from msgspec import Struct

Kind = Literal["finished", "waiting", "backlog"]
CALM_SHARE: Final = 0.15
"""A controller that takes less of a core than this over three seconds has taken everything in."""


class Depth(Struct, kw_only=True):
    """Of one of the three; memory is MiB, times are seconds."""

    kind: Kind
    round: int = 0
    count: int
    rss: float
    """With so many tasks, before the restart."""
    restart_rss: float
    restart_to_pod: float
    """From the start of the new process to the first pod that it makes."""
    restart_cpu: float
    """CPU of the new process until it is calm."""
    last_pod: float
    """From the start of the new process to the last pod of a backlog."""
    run: Run | None = None
    """How the finished ones were run."""
    void: list[str] = []


async def depth(
    kind: Kind, count: int, pod: dict[str, Any], *, storage: Storage, settings: list[str], keep_logs: Path | None = None
) -> Depth:
    """One measurement on a stage of its own."""
    async with contextlib.AsyncExitStack() as stack:
        stage, api = await stack.enter_async_context(set_stage(run_seconds=0, storage=storage, keep_logs=keep_logs))
        observer = await stack.enter_async_context(observing(stage.access("observer"), OURS.owners))
        run, rss = None, 0.0
        if kind != "backlog":
            with contending(stage, OURS, pod, settings) as process:
                if kind == "finished":
                    run = await run_on(stage, api, process, observer, OURS, Load(count=count, limit=1800), pod)
                else:
                    await apply(stage, OURS.owners, objects.task(waiting=True), "wait", Load(count=count))
                await calm(process)
                rss = procfs.usage(process.pid).rss
        return await _restart(kind, count, stage, observer, pod, settings, rss, run)


async def _restart(
    kind: Kind, count: int, stage: Stage, observer: Observer, pod: dict[str, Any], settings: list[str], rss: float, run: Run | None
) -> Depth:
    """A new task or a backlog comes while nobody is there, then the controller starts."""
    new = Load(count=count if kind == "backlog" else 1)
    await apply(stage, OURS.owners, objects.task(), "new", new)
    start = OURS.start(stage, pod, settings)
    began = time.monotonic()
    with started(CONTENDER, start.command, stage.folder, start.environ) as process:
        in_time = await observer.until(observer.pod_seen, "new", new.count, 300)
        await calm(process)
        usage = procfs.usage(process.pid)
    seen = [moment - began for name, moment in observer.pod_seen.items() if name.startswith("new")]
    return Depth(
        kind=kind,
        count=count,
        rss=rss,
        restart_rss=usage.rss,
        restart_to_pod=min(seen, default=0.0),
        restart_cpu=usage.cpu,
        last_pod=max(seen, default=0.0),
        run=run,
        void=[*([] if in_time else [f"{len(seen)} of {new.count} pods within 300 s"]), *(run.void if run is not None else [])],
    )


async def calm(process: Running, limit: float = 300.0) -> None:
    """Wait until it has nothing to do, or the limit is over: writes of waiting reasons go on for long, a few a second."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = procfs.usage(process.pid).cpu
        await asyncio.sleep(3.0)
        if procfs.usage(process.pid).cpu - before < 3.0 * CALM_SHARE:
            return
