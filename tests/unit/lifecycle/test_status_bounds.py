"""A status that breaks the CRD's own bounds would be refused for ever, and its task would never end: none does, whatever is said."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from tests.fakes.seen import CREATED, ended, pod, running, said, seen, task
from tests.unit.crds.schema_walk import load, schema

from agenttask.api.reasons import Reason
from agenttask.api.report import ErrorReport, StepReport, UsageReport
from agenttask.api.task import AgentTaskStatus, DeviceStatus
from agenttask.domain.device import Choice, DeviceClass, DeviceRequest, Stock
from agenttask.domain.lifecycle import MAX_MODELS
from agenttask.domain.model_names import models_named
from agenttask.domain.observation import NextClass, Observation, Refused, SeenPod, SeenTask, Waits
from agenttask.domain.placement import MAX_CONSIDERED, MAX_REASON, place
from agenttask.domain.plan import plan

LONG = "ü" * 100_000
CLASSES = tuple(DeviceClass(name=f"class-{index}-{'x' * 50}"[:63]) for index in range(80))
STEPS = [{"name": f"s{index}", "plugin": {"kind": "k", "with": {"model": f"{index}{LONG}"}}} for index in range(64)]
TASK = task(steps=STEPS)


class Verbose:
    """A plugin that has much to say of every class."""

    def __init__(self, usable: str) -> None:
        self._usable = usable

    def rank(self, request: DeviceRequest, inventory: Any) -> list[Choice]:
        return [Choice(class_=name, usable=name == self._usable, verdict=LONG) for name in request.classes]


def problems(status: AgentTaskStatus) -> list[str]:
    checked = jsonschema.Draft202012Validator(schema(load("agenttasks"), "status"))
    written = json.loads(msgspec.json.encode(status))
    return [f"{'/'.join(map(str, error.path))}: {error.message[:80]}" for error in checked.iter_errors(written)]


def with_device(one: SeenPod) -> SeenPod:
    """The pod has the longest word that placement gives."""
    found = place((), Verbose(CLASSES[-1].name), [Stock(class_=one) for one in CLASSES])
    device = DeviceStatus(class_=CLASSES[-1].name, reason=found.reason, considered=found.considered)
    return msgspec.structs.replace(one, device=device)


FULL = said(
    done=True,
    steps=tuple(StepReport(index, "S", 2**53, 2**53, "", 10**9, 10**6, 10**6) for index in range(64)),
    usage=UsageReport(2**53, 2**53, 2**53, " + ".join(["123456.1234 USD"] * 7)),
    output="x",
)
FAILED = said(done=True, error=ErrorReport(reason=Reason.STEP_FAILED, message="x" * 1024, step=63))

CASES: dict[str, Observation] = {
    "gives its class up": seen(
        with_device(pod(unschedulable=LONG, unschedulable_since=CREATED - 100)), next_class=NextClass(class_="other")
    ),
    "gives its class up on a node": seen(
        with_device(pod(unprepared=LONG, unprepared_since=CREATED - 100)), next_class=NextClass(class_="other")
    ),
    "device not prepared": seen(with_device(pod(unprepared=LONG, unprepared_since=CREATED))),
    "waits": seen(admission=Waits(reason=Reason.UNKNOWN_MODEL, message=LONG)),
    "refused": seen(admission=Refused(reason=Reason.INVALID_TASK, message=LONG)),
    "starting": seen(with_device(pod(unschedulable=LONG))),
    "cannot start": seen(with_device(pod(waiting_reason="InvalidImageName", waiting_message=LONG))),
    "running": seen(with_device(running())),
    "done": seen(with_device(ended(FULL))),
    "failed": seen(with_device(ended(FAILED, exit_code=1))),
    "crashed": seen(ended(LONG, exit_code=1, reason=LONG)),
    "start error": seen(ended(LONG, exit_code=128, reason="StartError")),
    "taken away": seen(pod(phase="Failed", reason="Evicted", message=LONG)),
    "refused by its node": seen(pod(phase="Failed", reason=LONG, message=LONG)),
}


@pytest.mark.parametrize("found", CASES.values(), ids=CASES)
def test_a_status_fits_the_crd_however_much_is_said(found: Observation) -> None:
    assert TASK.spec is not None
    found = msgspec.structs.replace(found, models=", ".join(models_named(TASK.spec)), trace_id="a" * 32)
    for later in (10, 50, 70, 500):
        status = plan(TASK, found, CREATED + later).status
        if status is not None:
            assert problems(status) == []
            assert len(status.models or "") <= MAX_MODELS
            assert len(msgspec.json.encode(status)) < 100_000


def test_every_case_ends_in_a_status() -> None:
    assert [name for name, found in CASES.items() if plan(TASK, found, CREATED + 10).status is None] == []


@pytest.mark.parametrize("usable", [CLASSES[0].name, CLASSES[-1].name, "none"], ids=["first", "last", "none"])
def test_a_verbose_strategy_is_cut_to_what_a_status_holds(usable: str) -> None:
    found = place((), Verbose(usable), [Stock(class_=one) for one in CLASSES])

    assert len(found.reason) <= MAX_REASON
    assert len(found.considered) <= MAX_CONSIDERED
    assert all(len(one.verdict) <= 256 for one in found.considered)


def test_a_spec_that_cannot_be_read_is_told_within_bounds() -> None:
    unreadable = SeenTask(metadata=task().metadata, spec=None, problem=LONG)
    status = plan(unreadable, seen(), CREATED + 1).status

    assert status is not None
    assert problems(status) == []
    assert (status.message or "").endswith("…")
