"""Our controller beside Kubernetes' Job controller, on a real control plane with fake nodes.

    make bench-control                                        all of it, about an hour on two cores
    scripts/bench control --only burst --rounds 1 --tasks 100 a short look
    scripts/bench control --profile burst                     where our controller's time goes
    scripts/bench control --report                            table and plot anew from what was measured

What is measured: `burst` (all at once, pods run 0 s and 1 s), `paced` (10 and 40 a second), `depth` (ours alone with very many
tasks), `schema` (what our CRD costs the API server). See bench/README.md.
"""

import argparse
from pathlib import Path

import uvloop
from bench.control import goals, plot, sampler, table
from bench.control.programme import MEASUREMENTS, Plan, measure, profile
from bench.control.results import Results
from bench.control.stage import ROOT


def main() -> None:
    """Measure, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000, help="of a burst")
    parser.add_argument("--default-tasks", type=int, default=200, help="of the Job controller at its defaults")
    parser.add_argument("--paced-seconds", type=float, default=30.0)
    parser.add_argument("--deep", type=int, default=10_000, help="tasks that wait or have finished")
    parser.add_argument("--backlog", type=int, default=500)
    parser.add_argument("--deep-rounds", type=int, default=1)
    parser.add_argument("--storage", choices=["disk", "memory"], default="disk", help="of etcd; with fsync in either case")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of our controller")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--logs", type=Path, help="keep the processes' logs of the last run here")
    parser.add_argument("--add", action="store_true", help="to what was measured before, instead of beginning anew")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--profile", choices=["burst", "finished", "waiting"], help="run it once and print where our controller's CPU goes")
    given = parser.parse_args()
    plan = Plan(
        only=given.only, rounds=given.rounds, tasks=given.tasks, default_tasks=given.default_tasks, paced_seconds=given.paced_seconds,
        deep=given.deep, backlog=given.backlog, deep_rounds=given.deep_rounds, storage=given.storage, settings=given.set, logs=given.logs,
    )  # fmt: skip
    if given.profile:
        print(sampler.tables(sampler.read(uvloop.run(profile(plan, given.profile)))))
        return
    file = given.output / "control.json"
    if not given.report:
        uvloop.run(measure(plan, file, Results.read(file) if given.add and file.exists() else None))
    found = Results.read(file)
    (given.output / "control.md").write_text(table.document(found))
    (given.output / "control.svg").write_text(plot.picture(plot.panels(found.runs)))
    print(goals.table(found))


if __name__ == "__main__":
    main()
