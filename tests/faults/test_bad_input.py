"""What users and admins do wrong, on a real API server: what was named goes away, many come at once, a runner lies."""

import asyncio

from agenttask.api import report as reports
from agenttask.api.report import Report, StepReport
from tests.fakes.kubelet import FakePod, said
from tests.faults.arena import Open, Script
from tests.faults.checker import End
from tests.faults.eventually import PATIENCE, eventually
from tests.faults.lives import SUCCEEDED
from tests.faults.paths import path
from tests.faults.soak import FLOOD, SOAK

CLASSES = ("deviceClasses=[{name: big, kind: cpu}, {name: cpu, kind: cpu}]",)
AFTER_AN_UPGRADE = ("deviceClasses=[{name: cpu, kind: cpu}]",)
AT_ONCE = 50 if SOAK else 5
ONCE = {"limit": 0, "maxInfrastructureRestarts": 0}
CRASHED = End(phase="Failed", reason="RunnerCrashed")


def until(told: asyncio.Event) -> Script:
    """The pod runs until the test says so."""

    async def script(pod: FakePod) -> None:
        await pod.start()
        await told.wait()
        await pod.end(said(pod.attempt))

    return script


async def test_a_class_that_an_upgrade_takes_away_ends_no_running_task(run: Open) -> None:
    """What runs with it goes on, what waits for it says so, until another upgrade brings it back."""
    async with run(*CLASSES) as (here, _, _):
        finish = asyncio.Event()
        await here.create("runs", until(finish), device={"classes": ["big"]})
        await here.recorder.until_phase("runs", "Running")
        await here.controller.stop()
        await here.create("waits", device={"classes": ["big"]})
        here.controller.settings = AFTER_AN_UPGRADE
        await here.controller.start()
        await here.recorder.until(lambda: here.recorder.status("waits").get("reason") == "UnknownClass")
        assert "'big'" in here.recorder.status("waits")["message"]
        finish.set()
        await here.recorder.until_phase("runs", "Succeeded")
        await here.controller.stop()
        here.controller.settings = CLASSES
        await here.controller.start()
        await here.judge({"runs": SUCCEEDED, "waits": SUCCEEDED})
        assert here.recorder.status("runs")["device"]["class"] == "big"


async def test_one_task_of_another_namespace_is_next_whatever_thousands_wait(run: Open) -> None:
    """10,000 (here fewer) wait when the one comes, and few places are free."""
    async with run(f"maxRunningTasks={AT_ONCE}", others=1, start=False) as (here, _, _):
        there = f"{here.namespace}-0"
        names = [f"t-{number}" for number in range(FLOOD)]
        for start in range(0, FLOOD, 50):
            await asyncio.gather(*(here.create(name) for name in names[start : start + 50]))
        body = {"metadata": {"name": "one"}, "spec": {"steps": [{"name": "say", "exec": {"command": ["true"]}}]}}
        await here.api.create(path("agenttasks", there), {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask"} | body)
        await here.run(here.controller)

        async def served() -> object:
            return (await here.api.get(path("pods", there)))["items"]

        async def told() -> object:
            return [one for one in here.writes(there) if (one.verb, one.plural, one.code) == ("create", "pods", 201)]

        await eventually(served, what="the pod of the one")
        await eventually(told, what="its line in the audit log")
        made = [one for one in here.writes(there) + here.writes() if (one.verb, one.plural, one.code) == ("create", "pods", 201)]
        order = [one.namespace for one in sorted(made, key=lambda one: one.at)]
        assert order.index(there) <= 3 * AT_ONCE, "so many of the flood had their turn when the one had its"
        await here.judge(dict.fromkeys(names, SUCCEEDED), seconds=PATIENCE + FLOOD)


async def test_a_report_of_anothers_is_no_result_of_this_task(run: Open) -> None:
    """Another attempt, steps that the task has not, an output that is stored for another task."""

    def says(report: Report) -> Script:
        async def script(pod: FakePod) -> None:
            await pod.start()
            await pod.end(reports.encode(report).decode())

        return script

    done = (StepReport(0, "S", 0, 5),)
    async with run() as (here, _, _):
        record = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTaskRecord", "metadata": {"name": "of-another"}}
        told = {"task": "another", "taskUID": "another", "attempt": 1, "output": "stolen"}
        await here.api.create(path("agenttaskrecords", here.namespace), record | told)
        lies = {
            "attempt": says(Report(done=True, attempt=99, started=1, steps=done, output="stolen")),
            "stored": says(Report(done=True, attempt=1, started=1, steps=done, output_stored=True)),
            "steps": says(
                Report(done=True, attempt=1, started=1, steps=tuple(StepReport(index, "S", 0, 5) for index in (0, 1, 7, 63)), output="done")
            ),
        }
        for name, script in lies.items():
            await here.create(name, script, retry=ONCE)
        await here.judge({"attempt": CRASHED, "stored": CRASHED, "steps": SUCCEEDED})
        assert [one["name"] for one in here.recorder.status("steps")["steps"]] == ["say"]
        assert "stolen" not in str([here.recorder.status(name) for name in lies])
