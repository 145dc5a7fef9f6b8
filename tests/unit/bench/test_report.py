"""Tables, goals and the picture of a benchmark."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench.control import goals, plot, table
from bench.control.depth import Depth
from bench.control.race import Load, Run
from bench.control.results import Machine, Results
from bench.control.schema_cost import Cost

PROCESSES = ("contender", "kube-apiserver", "etcd", "kube-scheduler", "controllers", "fake-kubelet")


LAG = {"p50": 0.1, "p99": 7.0, "max": 9.0, "held_p99": 5.0}


def run(contender: str, number: int, rate: float, *, load: Load | None = None, void: tuple[str, ...] = ()) -> Run:
    """A run with this many tasks completed a second."""
    return Run(
        contender=contender, round=number, load=load or Load(count=1000), create_rate=300, pods=1000, completed=1000, pods_rate=rate,
        complete_rate=rate, apply_to_pod=(rate, 2 * rate), apply_to_complete=(3 * rate, 4 * rate), ended_to_complete=(5.0, 6.0),
        cpu=dict.fromkeys(PROCESSES, 2.0), rss=dict.fromkeys(PROCESSES, 50.0), writes={"POST pods": 1.0, "PATCH agenttasks/status": 1.0},
        refused={}, lag=LAG if contender == "agenttask" else {}, load_average=(1.0, 2.0), void=list(void),
    )  # fmt: skip


def results(*runs: Run, depths: tuple[Depth, ...] = (), costs: tuple[Cost, ...] = ()) -> Results:
    """A file's content."""
    machine = Machine(
        when="2026-01-01", commit="abc", processor="Fast One", cores=2, memory_gib=24, kernel="6", python="3.11", kubernetes="v1.35.8",
        packages={"kopf": "1"}, storage="disk",
    )  # fmt: skip
    return Results(machine=machine, settings=[], runs=list(runs), depths=list(depths), costs=list(costs))


THREE = [run(name, number, rate) for number in range(3) for name, rate in (("agenttask", 60.0 + number), ("Job, tuned", 40.0 - number))]


def test_a_ratio_is_of_one_round() -> None:
    assert goals.ratios(THREE, "agenttask", "Job, tuned", lambda one: one.complete_rate) == pytest.approx([60 / 40, 61 / 39, 62 / 38])


def test_a_round_without_the_other_gives_no_ratio() -> None:
    assert goals.ratios([THREE[0], THREE[3]], "agenttask", "Job, tuned", lambda one: one.complete_rate) == []


def test_the_goals_tell_the_median_of_all_rounds() -> None:
    found = goals.table(results(*THREE))
    assert "| Complete/s ÷ Job controller, tuned | ≥ 1.5 | 1.56 (1.50\N{EN DASH}1.63) |" in found
    assert "| loop lag p99 in the burst, ms | ≤ 25 | 7.00 |" in found
    assert "| the same without waits for a processor, ms |  | 5.00 |" in found


def test_a_goal_that_was_not_measured_is_not_told() -> None:
    assert "many waiting" not in goals.table(results(*THREE))


def test_what_a_schema_costs_is_a_ratio_of_one_round() -> None:
    costs = [
        Cost(schema=name, round=number, create=1.0, status=status) for number in (0, 1) for name, status in (("ours", 2.0), ("bare", 1.0))
    ]
    assert goals.schema_ratios(costs) == [1.5, 1.5]


def test_a_void_run_counts_nowhere_and_is_told() -> None:
    found = table.document(results(*THREE, run("agenttask", 3, 900.0, void=("12 pods for 1000 tasks",))))
    assert "900" not in found
    assert "agenttask, burst of 1000, pods run 0 s, round 3: 12 pods for 1000 tasks" in found


def test_who_has_fewer_tasks_stands_beside_the_larger_burst() -> None:
    found = table.document(results(*THREE, run("Job, default", 0, 3.0, load=Load(count=200))))
    assert "| Job, default (200) |" in found
    assert "## burst of 200" not in found


def test_each_load_has_its_tables_and_the_machine_is_told() -> None:
    paced = Load(count=300, rate=10.0)
    found = table.document(results(*THREE, run("agenttask", 0, 10.0, load=paced)))
    assert "## burst of 1000, pods run 0 s" in found
    assert "## 10/s of 300, pods run 0 s" in found
    assert "2 cores of Fast One, 24 GiB" in found


def test_many_tasks_have_a_row_a_kind() -> None:
    deep = Depth(kind="waiting", count=10_000, rss=120.0, restart_rss=130.0, restart_to_pod=4.0, restart_cpu=5.0, last_pod=4.0)
    found = table.document(results(*THREE, depths=(deep,)))
    assert "| waiting | 10000 | 120 | 130 | 4.00 |  | 5.00 |  |" in found
    assert "| memory with many waiting, MiB | ≤ 200 | 130 |" in found


def test_the_results_come_back_from_their_file(tmp_path: Path) -> None:
    found = results(*THREE)
    file = tmp_path / "control.json"
    found.write(file)
    assert Results.read(file) == found


def test_the_picture_is_svg_with_a_bar_a_contender() -> None:
    drawn = ET.fromstring(plot.picture(plot.panels([*THREE, run("agenttask", 9, 900.0, void=("no",))])))
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("Job, tuned") == 4
    assert "61.0" in words
    assert "900" not in words


def test_a_picture_without_runs_has_no_panel() -> None:
    assert plot.panels([]) == []
