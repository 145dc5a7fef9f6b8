"""What is run in which order, and told while it runs."""

import os
import tempfile
import time
from collections.abc import Iterator
from math import nan
from pathlib import Path
from typing import Final, Literal

from bench.control.arithmetic import in_turn, short
from bench.control.contenders import BARE, DEFAULT, OURS, TUNED, Contender
from bench.control.depth import Depth, Kind, depth
from bench.control.race import CONTENDER, Load, Run, Sample, race, sample
from bench.control.results import Results, machine
from bench.control.schema_cost import costs
from bench.control.stage import Storage
from msgspec import Struct

Measurement = Literal["burst", "paced", "depth", "schema"]
MEASUREMENTS: Final[tuple[Measurement, ...]] = ("burst", "paced", "depth", "schema")
RUN_SECONDS: Final = (0.0, 1.0)
RATES: Final = (10.0, 40.0)


class Plan(Struct, frozen=True, kw_only=True):
    """Sizes of everything; `settings` are those of our controller beyond its defaults."""

    only: list[Measurement]
    rounds: int
    tasks: int
    default_tasks: int
    paced_seconds: float
    deep: int
    backlog: int
    deep_rounds: int
    storage: Storage
    settings: list[str]
    logs: Path | None = None


def races(plan: Plan, number: int) -> Iterator[tuple[Contender, Load]]:
    """One round: who runs with what, those that are compared next to one another."""
    if "burst" in plan.only:
        for run_seconds in RUN_SECONDS:
            load = Load(count=plan.tasks, run_seconds=run_seconds)
            yield from ((contender, load) for contender in in_turn((OURS, TUNED), number))
        yield DEFAULT, Load(count=plan.default_tasks)
    if "paced" in plan.only:
        for rate in RATES:
            load = Load(count=round(rate * plan.paced_seconds), rate=rate)
            yield from ((contender, load) for contender in in_turn((BARE, OURS, TUNED), number))


async def measure(plan: Plan, file: Path, known: Results | None = None) -> None:
    """Run it all; the file has what there is after each run."""
    found = known or Results(machine=await machine(plan.storage), settings=plan.settings)
    one = await sample(plan.storage, plan.settings)
    first = 1 + max((run.round for run in found.runs), default=-1)
    for number in range(first, first + plan.rounds):
        for contender, load in races(plan, number):
            run = await race(contender, load, one.pod, storage=plan.storage, settings=plan.settings, keep_logs=plan.logs)
            run.round = number
            found.runs.append(run)
            found.write(file)
            _tell(_line(run))
    await _further(plan, found, one, file)


async def _further(plan: Plan, found: Results, one: Sample, file: Path) -> None:
    """What has no contender."""
    if "schema" in plan.only:
        found.costs = await costs(one, count=plan.tasks, rounds=plan.rounds, storage=plan.storage)
        found.write(file)
        for cost in found.costs:
            _tell(f"CRD {cost.schema:5} POST {short(cost.create)} ms, PATCH status {short(cost.status)} ms of the API server's CPU")
    if "depth" in plan.only:
        kinds: list[tuple[Kind, int]] = [("backlog", plan.backlog), ("waiting", plan.deep), ("finished", plan.deep)]
        for number in range(plan.deep_rounds):
            for kind, count in kinds:
                deep = await depth(kind, count, one.pod, storage=plan.storage, settings=plan.settings, keep_logs=plan.logs)
                deep.round = number
                found.depths.append(deep)
                found.write(file)
                _tell(_deep_line(deep))


async def profile(plan: Plan, what: Literal["burst", "finished", "waiting"]) -> Path:
    """The functions of our controller in one such run; of `finished` and `waiting` those of the restart."""
    one = await sample(plan.storage, plan.settings)
    with tempfile.NamedTemporaryFile(prefix="agenttask-profile-", delete=False) as target:
        os.environ["BENCH_PROFILE"] = target.name  # the last process that ends has the file
    if what == "burst":
        _tell(_line(await race(OURS, Load(count=plan.tasks), one.pod, storage=plan.storage, settings=plan.settings, keep_logs=plan.logs)))
    else:
        _tell(_deep_line(await depth(what, plan.deep, one.pod, storage=plan.storage, settings=plan.settings, keep_logs=plan.logs)))
    return Path(target.name)


def _line(run: Run) -> str:
    said = {
        "Complete/s": run.complete_rate,
        "pods/s": run.pods_rate,
        "apply → pod p50": (run.apply_to_pod or (nan,))[0],
        "CPU ms a task": run.cpu[CONTENDER],
        "API server's": run.cpu["kube-apiserver"],
        "MiB": run.rss[CONTENDER],
        "writes": sum(run.writes.values()),
        "lag p99": run.lag.get("p99", nan),
        "load": run.load_average[0],
    }
    return f"round {run.round}, {run.contender:13} {run.load.title:28} {_numbers(said, run.void)}"


def _deep_line(deep: Depth) -> str:
    said = {
        "MiB": deep.rss,
        "after a restart": deep.restart_rss,
        "first pod after s": deep.restart_to_pod,
        "last": deep.last_pod,
        "CPU s": deep.restart_cpu,
    }
    return f"{deep.count} {deep.kind}: {_numbers(said, deep.void)}"


def _numbers(said: dict[str, float], void: list[str]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in said.items()) + (f"  VOID: {'; '.join(void)}" if void else "")


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
