"""Conditions: the truth about a task; phase is derived from them.

`Complete` is only ever True, as is `Failed` (a Job's way): `kubectl wait --for=condition=Complete` waits for the one,
`--for=condition=Failed` for the other.
"""

from collections.abc import Iterable

from agenttask.api.meta import Condition, ConditionStatus
from agenttask.api.reasons import ConditionType, Phase, Reason
from agenttask.domain import moment


def with_condition(
    conditions: Iterable[Condition],
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: str,
    *,
    generation: int,
    now: float,
) -> tuple[Condition, ...]:
    """The conditions with this one set; its transition time moves only when `status` changes."""
    before = {condition.type: condition for condition in conditions}
    old = before.get(kind)
    since = old.last_transition_time if old is not None and old.status == status else moment.render(now)
    before[kind] = Condition(
        type=kind, status=status, reason=reason, message=message, last_transition_time=since, observed_generation=generation
    )
    return tuple(before[known] for known in ConditionType if known in before)


def holds(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    """Whether a condition is there and True."""
    return any(condition.type == kind and condition.status == "True" for condition in conditions)


def terminal(conditions: Iterable[Condition]) -> bool:
    """Whether the task has ended."""
    conditions = tuple(conditions)
    return holds(conditions, ConditionType.FAILED) or holds(conditions, ConditionType.COMPLETE)


def phase_of(conditions: Iterable[Condition], *, live: bool) -> Phase:
    """The summary: terminal conditions first, then suspension, then the pod; `live` says that the attempt has one."""
    by_type = {condition.type: condition for condition in conditions if condition.status == "True"}
    failed = by_type.get(ConditionType.FAILED)
    if failed is not None:
        return Phase.CANCELLED if failed.reason == Reason.CANCELLED_BY_USER else Phase.FAILED
    if ConditionType.COMPLETE in by_type:
        return Phase.SUCCEEDED
    if ConditionType.SUSPENDED in by_type:
        return Phase.SUSPENDED
    if ConditionType.POD_READY in by_type:
        return Phase.RUNNING
    return Phase.STARTING if live else Phase.QUEUED
