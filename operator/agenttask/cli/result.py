"""How a local run ended, for a person and for a program; the fields of the JSON are those of `status`."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from agenttask.api.constants import API_VERSION, TASK_KIND
from agenttask.api.errors import OutputTooLarge
from agenttask.api.reasons import Phase, Reason, StepPhase
from agenttask.api.report import StepReport
from agenttask.api.steps import Step
from agenttask.api.task import AgentTaskSpec, AgentTaskStatus, StepStatus, UsageStatus
from agenttask.domain.progress import items_of, progress_of
from agenttask.runner.station import Outcome
from agenttask.runner.termination import fitting

_PHASES = {"S": StepPhase.SUCCEEDED, "F": StepPhase.FAILED, "R": StepPhase.RUNNING, "K": StepPhase.SKIPPED}


def status(spec: AgentTaskSpec, outcome: Outcome) -> dict[str, Any]:
    """The status that a controller would write of this run, as far as a run alone tells it."""
    report = outcome.report
    steps = tuple(_step(spec.steps[step.index], step, report.started) for step in report.steps)
    found = AgentTaskStatus(
        phase=Phase.SUCCEEDED if outcome.error is None else Phase.FAILED,
        reason=Reason.SUCCEEDED if outcome.error is None else outcome.error.reason,
        message=outcome.message,
        attempt=report.attempt,
        progress=progress_of(steps, succeeded=outcome.error is None),
        steps=steps,
        output=outcome.output,
        usage=UsageStatus(
            calls=outcome.usage.calls,
            input_tokens=outcome.usage.input_tokens,
            output_tokens=outcome.usage.output_tokens,
            total_tokens=outcome.usage.input_tokens + outcome.usage.output_tokens,
            cost=report.usage.cost or None,
        ),
        start_time=_time(report.started),
        completion_time=_time(report.started + max((step.started_ms + step.duration_ms for step in report.steps), default=0)),
    )
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def show(tasks: Sequence[tuple[str, AgentTaskSpec]], outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Print the results: on standard output what a program wants, on standard error what a person has to know."""
    several = len(tasks) > 1
    if as_json:
        found = [status(spec, outcome) for (_, spec), outcome in zip(tasks, outcomes, strict=True)]
        items = [
            {"apiVersion": API_VERSION, "kind": TASK_KIND, "metadata": {"name": name}, "status": one}
            for (name, _), one in zip(tasks, found, strict=True)
        ]
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items} if several else found[0], indent=2, ensure_ascii=False))
    for (name, _), outcome in zip(tasks, outcomes, strict=True):
        if outcome.error is not None:
            prefix = f"{name}: " if several else ""
            if several or not as_json:
                print(f"{prefix}{outcome.error.reason}: {outcome.message}", file=sys.stderr)
        elif not as_json:
            text = outcome.output or ""
            print(f"==> {name} <==\n{text}" if several else text, end="" if text.endswith("\n") else "\n")
        if (note := cluster_note(outcome)) is not None:
            print(f"{name}: {note}" if several else note, file=sys.stderr)


def cluster_note(outcome: Outcome) -> str | None:
    """A warning where this run's result would not fit the termination message of a pod."""
    try:
        fitting(outcome.report)
    except OutputTooLarge as error:
        return f"note: in a cluster this output needs the gateway or an object store, else it is {Reason.OUTPUT_TOO_LARGE}: {error}"
    return None


def _step(step: Step, report: StepReport, started: int) -> StepStatus:
    ran = report.code != "K"
    return StepStatus(
        name=step.name,
        phase=_PHASES[report.code],
        tries=report.tries,
        items=items_of(report),
        started_at=_time(started + report.started_ms) if ran else None,
        finished_at=_time(started + report.started_ms + report.duration_ms) if ran else None,
        message=report.message or None,
    )


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
