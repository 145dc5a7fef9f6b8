"""Whatever steps, lists, limits, priorities, retries and locks a task has, it ends, and no limit is passed."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.task_runs import Stage, codes, document, step

from agenttask.api.errors import StepFailed
from agenttask.plugin.step import StepContext, StepOutput

KINDS = ("one", "two")


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Steps that need some of those before them, and the task's limits."""
    steps = []
    for index in range(draw(st.integers(1, 7))):
        needs = draw(st.sets(st.sampled_from([each["name"] for each in steps]), max_size=2)) if steps else set()
        fields: dict[str, Any] = {
            "needs": sorted(needs),
            "priority": draw(st.integers(-2, 2)),
            "continueOnError": draw(st.booleans()),
            "with_": {
                "locks": draw(st.lists(st.sampled_from(["a", "a/b", "c"]), max_size=2)),
                "turns": draw(st.integers(0, 3)),
                "fails": draw(st.booleans()),
            },
            "kind": draw(st.sampled_from(KINDS)),
        }
        if draw(st.booleans()):
            fields["forEach"] = f"{{{{ {list(range(draw(st.integers(0, 6))))} }}}}"
            fields["parallelism"] = draw(st.integers(1, 4))
        if draw(st.booleans()):
            fields["when"] = draw(st.sampled_from(["{{ true }}", "{{ false }}"]))
        steps.append(step(f"s{index}", fields.pop("with_"), **fields))
    execution = {"maxConcurrentSteps": draw(st.integers(1, 4)), "maxConcurrentByKind": {"one": draw(st.integers(1, 2))}}
    return steps, execution


class Busy:
    """A step kind that holds locks for some turns of the loop, then fails or not; counts who runs."""

    def __init__(self, kind: str, running: Counter[str], most: Counter[str]) -> None:
        self.kind = kind
        self.running = running
        self.most = most

    async def __call__(self, config: dict[str, Any], context: StepContext) -> StepOutput:
        self.running[self.kind] += 1
        self.most[self.kind] = max(self.most[self.kind], self.running[self.kind])
        self.most["all"] = max(self.most["all"], self.running.total())
        try:
            async with context.locks.hold(*(context.workspace / path for path in config["locks"])):
                for _ in range(config["turns"]):
                    await asyncio.sleep(0)
        finally:
            self.running[self.kind] -= 1
        if config["fails"]:
            raise StepFailed("as told")
        return StepOutput(text="done")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(tasks())
def test_a_task_ends_within_its_limits(found: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    steps, execution = found
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def run() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(Path(folder), **{kind: Busy(kind, running, most) for kind in KINDS})
            async with asyncio.timeout(60):
                return await stage.run(document(*steps, execution=execution))

    outcome = asyncio.run(run())
    assert most["all"] <= execution["maxConcurrentSteps"]
    assert most["one"] <= execution["maxConcurrentByKind"]["one"]
    assert running.total() == 0
    assert len(codes(outcome.report)) == len(steps)
    assert "R" not in codes(outcome.report)
    if all(each["continueOnError"] for each in steps):
        assert outcome.error is None
