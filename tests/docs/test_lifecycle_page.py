"""The drawn state machine is what the plan does: each arrow has its test, and no plan takes another one."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.docs.test_features_page import names_in
from tests.fakes.seen import CREATED, task
from tests.unit.lifecycle.test_plan_properties import before, observations, wishes

from agenttask.api.reasons import Phase, Reason
from agenttask.api.task import AgentTaskStatus
from agenttask.domain.observation import Observation
from agenttask.domain.plan import plan
from agenttask.domain.retry import FAILURES, Failure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lifecycle.md").read_text()


def load() -> Any:
    spec = importlib.util.spec_from_file_location("transitions", ROOT / "docs" / "transitions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MACHINE = load()
ARROWS = {(one.source, one.target) for one in MACHINE.TRANSITIONS}


def reachable(source: str) -> set[str]:
    """Phases after this one: those that lasted under two seconds were skipped, so an arrow may span several."""
    found, new = {source}, {source}
    while new:
        new = {target for start, target in ARROWS if start in new} - found
        found |= new
    return found


def test_every_arrow_names_a_test_that_exists() -> None:
    named = [one.test.split("::") for one in MACHINE.TRANSITIONS]
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_every_phase_is_drawn_and_the_final_ones_lead_nowhere() -> None:
    assert {target for _, target in ARROWS} == set(map(str, Phase))
    assert {source for source, _ in ARROWS} == {MACHINE.START, *(str(phase) for phase in Phase if not phase.terminal)}


@given(observations, before, wishes, st.sampled_from([None, *(phase for phase in Phase)]), st.floats(0, 3000))
@settings(max_examples=300, deadline=None)
def test_no_plan_takes_a_way_that_is_not_drawn(
    found: Observation, status: AgentTaskStatus, wished: dict[str, Any], phase: Phase | None, later: float
) -> None:
    one = task(msgspec.structs.replace(status, phase=phase), **wished)
    made = plan(one, found, CREATED + later)
    if made.status is None or made.status.phase is None or made.status.phase is phase:
        return
    assert str(made.status.phase) in reachable(MACHINE.START if phase is None else str(phase))


def test_the_classes_of_failures_are_those_of_the_table() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    marks = {Failure.APPLICATION: "StepFailed", Failure.INFRASTRUCTURE: "Lost", Failure.PERMANENT: "ModelRejected"}
    for failure, mark in marks.items():
        (row,) = (line for line in rows if f"`{mark}`" in line.split("|")[1])
        named = {reason for reason in Reason if f"`{reason}`" in row.split("|")[1]}
        assert named == {reason for reason, of in FAILURES.items() if of is failure}
