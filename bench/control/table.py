"""The tables of a benchmark, as Markdown: medians with the least and the most of all rounds."""

from collections.abc import Callable
from typing import Final

from bench.control import goals
from bench.control.arithmetic import shown, spread
from bench.control.goals import over, part
from bench.control.markdown import Cells, markdown
from bench.control.race import CONTENDER, Load, Run
from bench.control.results import Results
from bench.control.stage import NODES

PROCESSES: Final = (CONTENDER, "kube-apiserver", "etcd", "kube-scheduler", "controllers", "fake-kubelet")


def document(found: Results) -> str:
    """The whole page."""
    parts = ["# Our controller beside Kubernetes' Job controller", _machine(found), "![](control.svg)"]
    for load in _loads(found.runs):
        runs = [run for run in found.runs if run.load == load or (load.rate is None and _beside(run.load, load))]
        parts += [f"## {load.title}", contest(runs), costs_a_task(runs), writes(runs)]
    if found.depths:
        parts += ["## Ours alone, with many tasks", depths(found)]
    if found.costs:
        parts += ["## What our schema and rules cost the API server", schema(found)]
    parts += ["## Goals", goals.table(found)]
    void = [f"- {run.contender}, {run.load.title}, round {run.round}: {'; '.join(run.void)}" for run in found.runs if run.void]
    parts += [f"## Void\n\nThese runs count nowhere above.\n\n{chr(10).join(void)}"] if void else []
    return "\n\n".join(parts) + "\n"


def contest(runs: list[Run]) -> str:
    """Rates and latencies of each contender."""
    latencies = [word for what in ("apply → pod", "apply → Complete", "pod ended → Complete") for word in (f"{what}, p50", "p99")]
    head = ["", "runs", "Complete/s", "pods/s", *latencies]
    rows = [
        [
            _titled(mine), len(mine), over(mine, lambda run: run.complete_rate), over(mine, lambda run: run.pods_rate),
            *(over(mine, part(pair, place)) for pair in ("apply_to_pod", "apply_to_complete", "ended_to_complete") for place in (0, 1)),
        ]
        for mine in _by_contender(runs)
    ]  # fmt: skip
    return markdown(head, rows) + "\n\nLatencies in milliseconds."


def costs_a_task(runs: list[Run]) -> str:
    """CPU a task by process, and the contender's memory and loop."""
    head = ["CPU ms a task", "controller", *PROCESSES[1:], "controller's memory, MiB", "its loop's lag, p99 ms"]
    rows = [
        [
            _titled(mine), *(over(mine, _cpu_of(name)) for name in PROCESSES),
            over(mine, lambda run: run.rss[CONTENDER]), over([run for run in mine if run.lag], lambda run: run.lag["p99"]),
        ]
        for mine in _by_contender(runs)
    ]  # fmt: skip
    return markdown(head, rows)


def writes(runs: list[Run]) -> str:
    """Writes to the API a task, by what was written."""
    groups = _by_contender(runs)
    kinds = sorted({kind for run in runs for kind in run.writes})
    rows: list[Cells] = [[kind, *(over(mine, _writes_of(kind)) for mine in groups)] for kind in kinds]
    rows.append(["**all**", *(over(mine, lambda run: sum(run.writes.values())) for mine in groups)])
    return markdown(["writes a task", *(mine[0].contender for mine in groups)], rows)


def depths(found: Results) -> str:
    """The three kinds of many tasks."""
    after = ["memory after a restart, MiB", "restart → first new pod, s", "→ last pod, s", "its CPU, s"]
    head = ["", "tasks", "memory, MiB", *after, "Complete/s on the way"]
    rows = []
    for kind, count in dict.fromkeys((one.kind, one.count) for one in found.depths):
        mine = [one for one in found.depths if (one.kind, one.count) == (kind, count) and not one.void]
        ran = [one.run.complete_rate for one in mine if one.run is not None]
        columns = ([one.rss for one in mine if one.rss], [one.restart_rss for one in mine], [one.restart_to_pod for one in mine])
        last = [one.last_pod for one in mine] if kind == "backlog" else []
        rows.append([kind, count, *map(shown, (*columns, last, [one.restart_cpu for one in mine], ran))])
    return markdown(head, rows)


def schema(found: Results) -> str:
    """CPU of the API server a write."""
    rows = []
    for title, field in (("POST", "create"), ("PATCH status", "status"), ("both", "both")):
        ours, bare = ({cost.round: getattr(cost, field) for cost in found.costs if cost.schema == name} for name in ("ours", "bare"))
        rows.append(
            [title, shown(ours.values()), shown(bare.values()), shown(ours[number] / bare[number] for number in ours if bare.get(number))]
        )
    return markdown(["CPU ms a write", "AgentTask", "bare CRD", "ratio"], rows)


def _by_contender(runs: list[Run]) -> list[list[Run]]:
    names = dict.fromkeys(run.contender for run in runs)
    groups = [[run for run in runs if run.contender == name and not run.void] for name in names]
    return [group for group in groups if group]


def _titled(runs: list[Run]) -> str:
    """The contender, and how many tasks it had where that is not what others had."""
    return f"{runs[0].contender} ({runs[0].load.count})"


def _loads(runs: list[Run]) -> list[Load]:
    """Each load once; what runs beside a larger burst is in that one's table."""
    loads = list(dict.fromkeys(run.load for run in runs))
    return [load for load in loads if load.rate is not None or not any(_beside(load, other) for other in loads)]


def _beside(load: Load, other: Load) -> bool:
    return load.rate is None and other.rate is None and load.run_seconds == other.run_seconds and load.count < other.count


def _machine(found: Results) -> str:
    here = found.machine
    packages = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    before = spread([run.load_average[0] for run in found.runs])
    said = f"; load average before the runs {before}" if before is not None else ""
    beyond = f" and {', '.join(found.settings)}" if found.settings else ""
    where = f"{here.cores} cores of {here.processor}, {here.memory_gib:.0f} GiB, Linux {here.kernel}"
    what = f"Kubernetes {here.kubernetes} and its etcd (with fsync, on {here.storage}), {NODES} fake nodes, one fake kubelet"
    return (
        f"{here.when}, commit {here.commit}: {where}; {what}; CPython {here.python}, {packages}{said}.\n\n"
        f"Each run has a fresh control plane; the order turns from round to round. Ours has its default settings{beyond}. "
        "Job, tuned: 2,000 requests a second, 50 syncs at once; default: 20 requests a second, 5 syncs; both run pods of the "
        "very spec that ours makes. Medians of all rounds, with the least and the most."
    )


def _cpu_of(process: str) -> Callable[[Run], float]:
    return lambda run: run.cpu[process]


def _writes_of(kind: str) -> Callable[[Run], float]:
    return lambda run: run.writes.get(kind, 0.0)
