"""One run of one contender on a stage of its own: rates, latencies, CPU of each process, writes, and what makes the run void."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.control import objects, procfs, request_metrics
from bench.control.arithmetic import percentile
from bench.control.connection import Api, Refused
from bench.control.contenders import OURS, Contender, lag_file
from bench.control.observer import Observer, observing
from bench.control.processes import Running, started
from bench.control.stage import ROOT, Stage, Storage, stage
from msgspec import Struct

WARM_UP: Final = 50
SETTLE_SECONDS: Final = 2.0
CONTENDER: Final = "contender"


class Load(Struct, frozen=True, kw_only=True):
    """So many tasks, all at once or at a rate a second; pods run so long; `limit` is when we stop waiting."""

    count: int
    rate: float | None = None
    run_seconds: float = 0.0
    limit: float = 300.0

    @property
    def title(self) -> str:
        """For tables."""
        how = f"{self.rate:g}/s" if self.rate is not None else "burst"
        return f"{how} of {self.count}, pods run {self.run_seconds:g} s"


Pair = tuple[float, float]


class Run(Struct, kw_only=True):
    """What one run gave. Latencies are p50 and p99 in milliseconds, CPU is milliseconds a task by process, memory is MiB."""

    contender: str
    round: int = 0
    load: Load
    create_rate: float
    pods: int
    completed: int
    pods_rate: float
    complete_rate: float
    apply_to_pod: Pair | None
    apply_to_complete: Pair | None
    ended_to_complete: Pair | None
    cpu: dict[str, float]
    rss: dict[str, float]
    writes: dict[str, float]
    refused: dict[str, int]
    lag: dict[str, float]
    load_average: Pair
    void: list[str]
    """Why the run does not count; empty when it does."""


@contextlib.asynccontextmanager
async def set_stage(*, run_seconds: float, storage: Storage, keep_logs: Path | None = None) -> AsyncIterator[tuple[Stage, Api]]:
    """A fresh stage with our CRDs and the bench's namespace."""
    with stage(run_seconds=run_seconds, storage=storage, keep_logs=keep_logs) as found:
        async with Api(found.access("admin")) as api:
            for crd in objects.crds(ROOT / "crds"):
                await api.send("POST", objects.CRDS, crd)
            await api.send("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": objects.NAMESPACE}}).encode())
            await served(api, objects.TASKS)
            await served(api, f"/api/v1/namespaces/{objects.NAMESPACE}/serviceaccounts/default")
            yield found, api


async def served(api: Api, path: str) -> None:
    """Wait until this can be read.

    Raises:
        TimeoutError: not within half a minute.
    """
    async with asyncio.timeout(30):
        while True:
            try:
                await api.get(path)
            except Refused:
                await asyncio.sleep(0.2)
            else:
                return


@contextlib.contextmanager
def contending(stage: Stage, contender: Contender, pod: dict[str, Any], settings: list[str]) -> Iterator[Running]:
    """The contender's process, ready."""
    start = contender.start(stage, pod, settings)
    with started(CONTENDER, start.command, stage.folder, start.environ) as process:
        process.wait_until(start.ready, 120)
        yield process


async def apply(stage: Stage, owners: str, body: bytes, prefix: str, load: Load) -> dict[str, float]:
    """Create the objects by the load program; name to the second in which it was sent."""
    file = stage.folder / "body.json"
    file.write_bytes(body)
    words = ["-m", "bench.control.load", owners, str(file), prefix, str(load.count)]
    if load.rate is not None:
        words += ["--rate", str(load.rate)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/operator:{ROOT}/plugins", **stage.access("driver").environment()}
    process = await asyncio.create_subprocess_exec(sys.executable, *words, env=environ, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load program ended with {process.returncode}")
    sent: dict[str, float] = json.loads(output)
    return sent


def lag_since(process: Running, file: Path) -> dict[str, float]:
    """Our controller's loop lag since the last question, in milliseconds."""
    file.unlink(missing_ok=True)
    process.signal(signal.SIGUSR1)
    process.wait_until(file.exists, 30)
    found: dict[str, float] = json.loads(file.read_text())
    return found


class Sample(NamedTuple):
    """A task of ours that has ended, and its pod as the API server has it."""

    task: dict[str, Any]
    pod: dict[str, Any]


async def sample(storage: Storage, settings: list[str]) -> Sample:
    """What our controller makes of one task: the other contenders get the same pod."""
    async with set_stage(run_seconds=0, storage=storage) as (stage, api):
        with contending(stage, OURS, {}, settings) as process:
            async with observing(stage.access("observer"), OURS.owners) as observer:
                await apply(stage, OURS.owners, objects.task(), "sample", Load(count=1))
                if not await observer.until(observer.completed, "sample", 1, 60):
                    raise RuntimeError(f"no end of the first task; the controller's log:\n{process.tail()}")
        return Sample(task=(await api.get(objects.TASKS))["items"][0], pod=(await api.get(objects.PODS))["items"][0])


async def race(
    contender: Contender,
    load: Load,
    pod: dict[str, Any],
    *,
    storage: Storage = "disk",
    settings: list[str] | None = None,
    keep_logs: Path | None = None,
) -> Run:
    """One run on a stage of its own."""
    async with set_stage(run_seconds=load.run_seconds, storage=storage, keep_logs=keep_logs) as (stage, api):
        with contending(stage, contender, pod, settings or []) as process:
            async with observing(stage.access("observer"), contender.owners) as observer:
                return await run_on(stage, api, process, observer, contender, load, pod)


async def run_on(
    stage: Stage, api: Api, process: Running, observer: Observer, contender: Contender, load: Load, pod: dict[str, Any]
) -> Run:
    """One run with all that it takes ready: a few tasks to warm up, then the load between two looks at everything."""
    body, ends = contender.body(pod), observer.completed if contender.completes else observer.pod_ended
    warm_up = Load(count=min(WARM_UP, max(1, load.count // 5)))
    await apply(stage, contender.owners, body, "warm", warm_up)
    if not await observer.until(ends, "warm", warm_up.count, 120):
        raise RuntimeError(f"{contender.name}: no end of the {warm_up.count} tasks before the run; its log:\n{process.tail()}")
    await asyncio.sleep(SETTLE_SECONDS)
    if contender is OURS:
        await asyncio.to_thread(lag_since, process, lag_file(stage))
    pids = {**stage.pids(), CONTENDER: process.pid}
    average, before, asked_before = procfs.load_average(), procfs.usages(pids), await api.text("/metrics")
    sent = await apply(stage, contender.owners, body, "run", load)
    in_time = await observer.until(ends, "run", load.count, load.limit)
    lag = await asyncio.to_thread(lag_since, process, lag_file(stage)) if contender is OURS else {}
    await asyncio.sleep(1.0)  # the scheduler's Events come late
    after, asked_after = procfs.usages(pids), await api.text("/metrics")
    found = measured(contender.name, load, sent, observer)
    found.cpu = {name: 1000 * (after[name].cpu - before[name].cpu) / load.count for name in pids}
    found.rss = {name: after[name].rss for name in pids}
    found.writes = per_task(asked_before, asked_after, load.count)
    found.refused = dict(request_metrics.refusals(asked_after) - request_metrics.refusals(asked_before))
    found.lag, found.load_average = lag, (average, procfs.load_average())
    errors = request_metrics.server_errors(asked_after) - request_metrics.server_errors(asked_before)
    found.void = faults(found, observer, in_time=in_time, errors=errors)
    return found


def per_task(before: str, after: str, count: int) -> dict[str, float]:
    """Writes a task between two looks at /metrics; those of less than one in fifty tasks are left out."""
    grown: Counter[str] = request_metrics.writes(after) - request_metrics.writes(before)
    return {name: number / count for name, number in sorted(grown.items()) if number >= 0.02 * count}


def measured(name: str, load: Load, sent: Mapping[str, float], observer: Observer) -> Run:
    """Rates and latencies out of the moments; the rest is filled in by the caller."""
    began = min(sent.values())

    def rate(moments: Mapping[str, float]) -> float:
        mine = [moment for one, moment in moments.items() if one in sent]
        return len(mine) / (max(mine) - began) if mine else 0.0

    def between(first: Mapping[str, float], then: Mapping[str, float]) -> Pair | None:
        waits = [1000 * (then[one] - first[one]) for one in sent if one in first and one in then]
        return (percentile(waits, 0.5), percentile(waits, 0.99)) if waits else None

    return Run(
        contender=name,
        load=load,
        create_rate=len(sent) / max(1e-9, max(sent.values()) - began),
        pods=sum(observer.pods_of[one] for one in sent),
        completed=sum(one in observer.completed for one in sent),
        pods_rate=rate(observer.pod_seen),
        complete_rate=rate(observer.completed),
        apply_to_pod=between(sent, observer.pod_seen),
        apply_to_complete=between(sent, observer.completed),
        ended_to_complete=between(observer.pod_ended, observer.completed),
        cpu={},
        rss={},
        writes={},
        refused={},
        lag={},
        load_average=(0.0, 0.0),
        void=[],
    )


def faults(run: Run, observer: Observer, *, in_time: bool, errors: int) -> list[str]:
    """Why a run does not count."""
    twice = sum(count > 1 for count in observer.pods_of.values())
    found = {
        f"not done within {run.load.limit:.0f} s: {run.completed} of {run.load.count}": not in_time,
        f"{run.pods} pods for {run.load.count} tasks": run.pods != run.load.count,
        f"{twice} tasks have more than one pod": twice > 0,
        f"{len(observer.failed)} tasks failed": bool(observer.failed),
        f"the API server answered {errors} times with 5xx": errors > 0,
    }
    return [why for why, holds in found.items() if holds]
