"""The steps of a task as status shows them, from the runner's report.

Indexes beyond the spec are skipped, times are held between the container's start and its end, no more items end than
there are, and a cost that is none is not shown: the report is written by the pod.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from agenttask.api.reasons import StepPhase
from agenttask.api.report import Report, StepReport
from agenttask.api.steps import Step
from agenttask.api.task import StepStatus, UsageStatus
from agenttask.domain import moment
from agenttask.domain.observation import SeenPod

_PHASES: Final = {"S": StepPhase.SUCCEEDED, "F": StepPhase.FAILED, "R": StepPhase.RUNNING, "K": StepPhase.SKIPPED}
_COST: Final = re.compile(r"[0-9]+(\.[0-9]+)? [A-Z]{3}( \+ [0-9]+(\.[0-9]+)? [A-Z]{3})*")
_RAN: Final = (StepPhase.SUCCEEDED, StepPhase.FAILED, StepPhase.RUNNING)


def steps_of(steps: Sequence[Step], report: Report | None, pod: SeenPod | None, *, ended: bool, now: float) -> tuple[StepStatus, ...]:
    """Every step in the order of the spec; once the attempt has ended none is left pending or running."""
    told = {step.index: step for step in report.steps} if report is not None else {}
    first, last = _span(pod, now)
    began = report.started / 1000 if report is not None and report.started else first
    if not first - moment.GRAIN <= began <= last:
        began = first

    def shown(index: int, step: Step) -> StepStatus:
        one = told.get(index)
        if one is None:
            return StepStatus(name=step.name, phase=StepPhase.SKIPPED if ended else StepPhase.PENDING)
        return _shown(step.name, one, began, last, ended=ended)

    return tuple(shown(index, step) for index, step in enumerate(steps))


def _shown(name: str, one: StepReport, began: float, last: float, *, ended: bool) -> StepStatus:
    """A step that the report tells of."""
    phase = _PHASES[one.code]
    if phase not in _RAN:
        return StepStatus(name=name, phase=phase, tries=one.tries, items=items_of(one), message=one.message or None)
    started = min(began + one.started_ms / 1000, last)
    finished: float | None = min(started + one.duration_ms / 1000, last)
    message = one.message
    if phase is StepPhase.RUNNING and not ended:
        finished = None
    elif phase is StepPhase.RUNNING:
        phase, finished, message = StepPhase.FAILED, last, message or "it was running when the attempt ended"
    return StepStatus(
        name=name,
        phase=phase,
        tries=one.tries,
        items=items_of(one),
        started_at=moment.render_exact(started),
        finished_at=moment.render_exact(finished) if finished is not None else None,
        message=message or None,
    )


def items_of(one: StepReport) -> str | None:
    """Ended items of all items, as `3/5`; None of a step without `forEach`."""
    return f"{min(one.items_ended, one.items)}/{one.items}" if one.items else None


def _span(pod: SeenPod | None, now: float) -> tuple[float, float]:
    """From the container's start to its end, which may lie in the second that its whole number hides."""
    if pod is None:
        return now, now
    first = pod.started or pod.created or now
    end = pod.terminated.finished if pod.terminated is not None else None
    return first, max(first, now if end is None else end + moment.GRAIN)


def progress_of(steps: Sequence[StepStatus], *, succeeded: bool = False) -> str | None:
    """Succeeded steps of all steps, as `3/5`; all of them once the task has succeeded, those included that it meant to go without."""
    done = len(steps) if succeeded else sum(step.phase is StepPhase.SUCCEEDED for step in steps)
    return f"{done}/{len(steps)}" if steps else None


def usage_of(report: Report | None) -> UsageStatus | None:
    """Calls, tokens and what they cost, if there was a call."""
    if report is None or not report.usage.calls:
        return None
    usage = report.usage
    return UsageStatus(
        calls=usage.calls,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cost=usage.cost if _COST.fullmatch(usage.cost) else None,
    )


def add_usage(before: UsageStatus | None, more: UsageStatus | None) -> UsageStatus | None:
    """The usage of two attempts together; costs of one currency are added as decimals, those of several stand beside each other."""
    if before is None or more is None:
        return more if before is None else before
    return UsageStatus(
        calls=before.calls + more.calls,
        input_tokens=before.input_tokens + more.input_tokens,
        output_tokens=before.output_tokens + more.output_tokens,
        total_tokens=before.total_tokens + more.total_tokens,
        cost=_add_costs(before.cost, more.cost),
    )


def _add_costs(*costs: str | None) -> str | None:
    sums: dict[str, Decimal] = {}
    for amount, currency in (part.split() for cost in costs if cost for part in cost.split(" + ")):
        sums[currency] = sums.get(currency, Decimal()) + Decimal(amount)
    return " + ".join(f"{amount:f} {currency}" for currency, amount in sorted(sums.items())) or None
