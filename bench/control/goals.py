"""What was to be reached, and what was; and how two contenders are compared: in the same round, then the median."""

from collections.abc import Callable, Iterable
from math import nan
from typing import Any, Final

from bench.control.arithmetic import shown, spread
from bench.control.markdown import Cells, markdown
from bench.control.race import CONTENDER, Pair, Run
from bench.control.results import Results
from bench.control.schema_cost import Cost

OURS: Final = "agenttask"
TUNED: Final = "Job, tuned"
DEFAULT: Final = "Job, default"
BARE: Final = "bare loop"
PACE: Final = 10.0


def table(found: Results) -> str:
    """What was to be reached, and what was."""
    runs = [run for run in found.runs if not run.void]
    bursts = [run for run in runs if run.load.rate is None and run.load.run_seconds == 0]
    ours = [run for run in bursts if run.contender == OURS]
    deep = [one.run.complete_rate for one in found.depths if one.kind == "finished" and one.run is not None]
    usual = spread([run.complete_rate for run in ours])

    def of(kind: str, value: Callable[[Any], float]) -> str:
        return shown([value(one) for one in found.depths if one.kind == kind and not one.void])

    paced = [run for run in runs if run.load.rate == PACE]
    rows: list[Cells] = [
        ["Complete/s ÷ Job controller, tuned", "≥ 1.5", shown(ratios(bursts, OURS, TUNED, lambda run: run.complete_rate))],
        ["Complete/s ÷ Job controller, default", "≥ 10", shown(ratios(bursts, OURS, DEFAULT, lambda run: run.complete_rate))],
        ["Complete/s at very many ÷ at the burst's", "≥ 0.9", shown([rate / usual.median for rate in deep] if usual else [])],
        ["API writes a task, in all", "≤ 8", over(ours, lambda run: sum(run.writes.values()))],
        ["our writes a task", "2", over(ours, our_writes)],
        ["controller's CPU, s per 1,000 tasks", "≤ 2.5", over(ours, lambda run: run.cpu[CONTENDER])],
        ["controller's CPU ÷ Job controller's, tuned", "", shown(ratios(bursts, OURS, TUNED, lambda run: run.cpu[CONTENDER]))],
        ["loop lag p99 in the burst, ms", "≤ 25", over([run for run in ours if run.lag], lambda run: run.lag["p99"])],
        ["the same without waits for a processor, ms", "", over([run for run in ours if run.lag], lambda run: run.lag["held_p99"])],
        ["memory with many waiting, MiB", "≤ 200", of("waiting", lambda one: max(one.rss, one.restart_rss))],
        ["memory with many finished, MiB", "≤ 100", of("finished", lambda one: one.restart_rss)],
        ["the same in the process in which all of them had waited, MiB", "", of("finished", lambda one: one.rss)],
        ["restart → first new pod, many finished, s", "≤ 3", of("finished", lambda one: one.restart_to_pod)],
        ["restart → first new pod, many waiting, s", "≤ 10", of("waiting", lambda one: one.restart_to_pod)],
        ["backlog: first pod → last pod, s", "≤ 5", of("backlog", lambda one: one.last_pod - one.restart_to_pod)],
        ["apply → pod at 10/s, p50, minus the bare loop's, ms", "≤ 5", shown(differences(paced, OURS, BARE, part("apply_to_pod", 0)))],
        [
            "pod ended → Complete at 10/s, p50, ms",
            "≤ 20",
            over((run for run in paced if run.contender == OURS), part("ended_to_complete", 0)),
        ],
        ["API server's CPU a write, AgentTask ÷ bare CRD", "≤ 1.3", shown(schema_ratios(found.costs))],
    ]
    return markdown(["what", "goal", "measured"], [row for row in rows if row[2]])


def ratios(runs: list[Run], first: str, second: str, value: Callable[[Run], float]) -> list[float]:
    """Of two contenders in the same round."""
    return [mine / other for mine, other in _rounds(runs, first, second, value) if other]


def differences(runs: list[Run], first: str, second: str, value: Callable[[Run], float]) -> list[float]:
    """Likewise."""
    return [mine - other for mine, other in _rounds(runs, first, second, value)]


def _rounds(runs: list[Run], first: str, second: str, value: Callable[[Run], float]) -> list[Pair]:
    known = {(run.contender, run.round): value(run) for run in runs}
    return [(known[first, number], known[second, number]) for name, number in known if name == first and (second, number) in known]


def part(pair: str, place: int) -> Callable[[Run], float]:
    """p50 or p99 of a latency; NaN where the contender has none."""

    def value(run: Run) -> float:
        found: Pair | None = getattr(run, pair)
        return found[place] if found is not None else nan

    return value


def over(runs: Iterable[Run], value: Callable[[Run], float]) -> str:
    """A value of several runs, for a table."""
    return shown(value(run) for run in runs)


def our_writes(run: Run) -> float:
    """Writes of the controller itself."""
    return sum(run.writes.get(kind, 0.0) for kind in ("POST pods", "PATCH agenttasks/status", "PUT agenttasks/status"))


def schema_ratios(costs: list[Cost]) -> list[float]:
    """The API server's CPU for one POST and one status: AgentTask's ÷ the bare CRD's."""
    ours, bare = ({cost.round: cost.both for cost in costs if cost.schema == name} for name in ("ours", "bare"))
    return [ours[number] / bare[number] for number in ours if bare.get(number)]
