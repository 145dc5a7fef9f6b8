"""Validation: everything about a task that can be said without a cluster, before any pod exists.

One function for the controller (`Accepted=False`), the runner and `agenttask validate`. The first problem found is
raised, with the path of its field as the user wrote it; types and bounds are the CRD's and msgspec's part.
"""

from collections.abc import Collection, Sequence

import msgspec

from agenttask.api.constants import MAX_DOCUMENT_BYTES
from agenttask.api.errors import InvalidTask, UnknownPlugin
from agenttask.api.steps import STEP_KINDS, Step
from agenttask.api.task import AgentTaskSpec, Input
from agenttask.domain import environment, templates
from agenttask.domain.deadlines import check_deadlines
from agenttask.domain.graph import StepGraph
from agenttask.domain.kind_rules import check_kind
from agenttask.domain.language import Scope
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.pod_rules import check_pod
from agenttask.domain.quantity import check_amounts
from agenttask.domain.step_rules import check_step


def validate(spec: AgentTaskSpec, *, step_kinds: Collection[str] | None) -> StepGraph:
    """Refuse a task that can never run; `step_kinds` are the installed ones, None where they are not known.

    Raises:
        InvalidTask: the task contradicts itself; InvalidTemplate for its templates.
        UnknownPlugin: a step's kind is not installed.
    """
    _fits_a_pod(spec)
    for index, step in enumerate(spec.steps):
        _one_kind(index, step)
    graph = StepGraph(spec.steps)
    for index, step in enumerate(spec.steps):
        _known_kind(index, step, step_kinds)
        check_kind(index, spec, graph)
        check_step(index, spec, graph)
    if spec.output is not None:
        templates.check(spec.output, field="spec.output", scope=Scope(params=spec.params, steps=graph.names))
    _known_limits(spec, step_kinds)
    _inputs(spec.inputs)
    environment.check_pod(spec.pod.env, "spec.pod.env")
    check_pod(spec.pod)
    check_amounts(spec)
    check_deadlines(spec)
    _distinct_classes(spec.device.classes)
    return graph


def _fits_a_pod(spec: AgentTaskSpec) -> None:
    """Look at the size first: the walk through the templates of one object of a megabyte would take seconds."""
    size = len(msgspec.json.encode(spec))
    if size > MAX_DOCUMENT_BYTES:
        raise InvalidTask("spec", f"has {size} bytes, at most {MAX_DOCUMENT_BYTES} reach the pod; move long texts into a ConfigMap input")


def _one_kind(index: int, step: Step) -> None:
    try:
        _ = step.kind
    except InvalidTask as error:
        raise InvalidTask(f"spec.steps[{index}]", error.problem) from None


def _known_kind(index: int, step: Step, step_kinds: Collection[str] | None) -> None:
    """A built-in kind has fields of its own: reached through `plugin` it would pass by their checks."""
    field = f"spec.steps[{index}]"
    if step.plugin is not None:
        field = f"{field}.plugin.kind"
        if step.kind in STEP_KINDS:
            raise InvalidTask(field, f"{quoted(step.kind)} is built in; write `{step.kind}:` in place of `plugin:`")
    if step_kinds is not None and step.kind not in step_kinds:
        near = did_you_mean(step.kind, step_kinds)
        raise UnknownPlugin(f"{field}: no step kind is called {quoted(step.kind)}; installed: {listed(step_kinds)}{near}")


def _known_limits(spec: AgentTaskSpec, step_kinds: Collection[str] | None) -> None:
    """`maxConcurrentByKind` names kinds that there are; a misspelt one would limit nothing."""
    known = {*(step_kinds or ()), *STEP_KINDS, *(step.kind for step in spec.steps)} - {"plugin"}
    for kind in spec.execution.max_concurrent_by_kind:
        if kind not in known:
            problem = f"no step kind is called {quoted(kind)}; there are: {listed(known)}{did_you_mean(kind, known)}"
            raise InvalidTask("spec.execution.maxConcurrentByKind", problem)


def _inputs(inputs: Sequence[Input]) -> None:
    seen: dict[str, int] = {}
    for index, one in enumerate(inputs):
        field = f"spec.inputs[{index}]"
        given = [source for source in (one.config_map, one.persistent_volume_claim) if source is not None]
        if len(given) != 1:
            what = "both are given" if given else "none is given"
            raise InvalidTask(field, f"exactly one of configMap and persistentVolumeClaim is needed, {what}")
        if one.name in seen:
            raise InvalidTask(f"{field}.name", f"{quoted(one.name)} is the name of spec.inputs[{seen[one.name]}] too; rename one")
        seen[one.name] = index


def _distinct_classes(classes: Sequence[str]) -> None:
    for index, name in enumerate(classes):
        if name in classes[:index]:
            raise InvalidTask(f"spec.device.classes[{index}]", f"{quoted(name)} is wished twice; name a class once")
