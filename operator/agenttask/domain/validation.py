"""Validation: everything about a task that can be said without a cluster, before any pod exists.

One function for the controller (`Accepted=False`), the runner and `agenttask validate`. The first problem found is
raised, with the path of its field as the user wrote it; types and bounds are the CRD's and msgspec's part.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from agenttask.api.constants import MAX_DOCUMENT_BYTES
from agenttask.api.errors import InvalidTask, UnknownPlugin
from agenttask.api.steps import STEP_KINDS, Step
from agenttask.api.task import AgentTaskSpec, Input
from agenttask.domain import environment, templates
from agenttask.domain.graph import StepGraph
from agenttask.domain.nearest import did_you_mean, listed, quoted
from agenttask.domain.quantity import check_amounts

MAX_CONFIG_DEPTH: Final = 32


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
        _kind_rules(index, step, spec, graph)
        _templates(index, step, spec, graph)
    if spec.output is not None:
        templates.check(spec.output, field="spec.output", params=spec.params, steps=graph.names)
    _inputs(spec.inputs)
    environment.check_pod(spec.pod.env, "spec.pod.env")
    check_amounts(spec)
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


def _kind_rules(index: int, step: Step, spec: AgentTaskSpec, graph: StepGraph) -> None:
    """What a kind's fields must be to each other and to other steps."""
    field = f"spec.steps[{index}]"
    if step.exec is not None:
        environment.check_exec(step.exec.env, f"{field}.exec.env")
    if step.embed is not None and not step.embed.texts and not step.embed.paths:
        raise InvalidTask(f"{field}.embed", "there is nothing to embed; give `texts` or `paths`")
    if step.retrieve is not None:
        _retrieves_from_embed(f"{field}.retrieve.from", index, step.retrieve.from_, spec, graph)


def _retrieves_from_embed(field: str, index: int, name: str, spec: AgentTaskSpec, graph: StepGraph) -> None:
    embeds = [step.name for step in spec.steps if step.embed is not None]
    if name not in graph.names:
        raise InvalidTask(field, f"no step is called {quoted(name)}; `embed` steps: {listed(embeds)}{did_you_mean(name, embeds)}")
    if name not in embeds:
        kind = spec.steps[graph.names.index(name)].kind
        raise InvalidTask(field, f"step {quoted(name)} is of kind {kind!r}; `embed` steps: {listed(embeds)}")
    if graph.names.index(name) not in graph.ancestors(index):
        raise InvalidTask(field, f"step {quoted(name)} may not have ended by then; add it to needs")


def _templates(index: int, step: Step, spec: AgentTaskSpec, graph: StepGraph) -> None:
    ended = [graph.names[ancestor] for ancestor in sorted(graph.ancestors(index))]
    later = [name for name in graph.names if name not in ended and name != step.name]
    field = f"spec.steps[{index}].plugin.with" if step.plugin is not None else f"spec.steps[{index}].{step.kind}"
    for path, text in _strings(step.config, field):
        templates.check(text, field=path, params=spec.params, steps=ended, later=later)


def _strings(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every string in a config with its path; keys are no templates."""
    if depth > MAX_CONFIG_DEPTH:
        raise InvalidTask(path, f"nested more than {MAX_CONFIG_DEPTH} deep")
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, Sequence):
        for position, item in enumerate(value):
            yield from _strings(item, f"{path}[{position}]", depth + 1)


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
