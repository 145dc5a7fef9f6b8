"""Which finished steps a new version of a task may take over from the run before: `agenttask run --watch`.

A step is the same when nothing that it could see is another: its own definition, the params, the models that it names
and those that they fall back to, the inputs (where its kind can read files), its secrets, and every step that it needs,
directly or through others.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import structs

from agenttask.api.document import ModelDocument, TaskDocument
from agenttask.api.steps import Step
from agenttask.domain.graph import StepGraph
from agenttask.domain.model_names import models_of_step, with_fallbacks

_NEVER_READS_FILES = ("chat", "write", "retrieve", "fetch")


def unchanged_steps(
    before: TaskDocument, after: TaskDocument, *, inputs_changed: bool, secrets_changed: Collection[str] = ()
) -> frozenset[str]:
    """The names of steps that would do the same again; both documents are valid, `secrets_changed` names steps."""
    if before.spec.params != after.spec.params or before.spec.pod.env != after.spec.pod.env:
        return frozenset()
    old = {step.name: step for step in before.spec.steps}
    graphs = StepGraph(before.spec.steps), StepGraph(after.spec.steps)
    models = _by_name(before.models), _by_name(after.models)
    same: set[str] = set()
    for index in _in_order(graphs[1], after.spec.steps):
        step = after.spec.steps[index]
        needs = {graphs[1].names[need] for need in graphs[1].needs(index)}
        if (
            old.get(step.name) == step
            and needs == {graphs[0].names[need] for need in graphs[0].needs(graphs[0].names.index(step.name))}
            and needs <= same
            and not (inputs_changed and step.kind not in _NEVER_READS_FILES)
            and step.name not in secrets_changed
            and _asked(step, models[0]) == _asked(step, models[1])
        ):
            same.add(step.name)
    return frozenset(same)


def _in_order(graph: StepGraph, steps: Sequence[Step]) -> Sequence[int]:
    """Needs before those that need them."""
    return sorted(range(len(steps)), key=lambda index: len(graph.ancestors(index)))


def _by_name(models: Sequence[ModelDocument]) -> Mapping[str, ModelDocument]:
    return {model.name: model for model in models}


def _asked(step: Step, models: Mapping[str, ModelDocument]) -> Sequence[ModelDocument | None]:
    """The models that may answer the step, without the names under which one run has their certificates and credentials."""
    names = with_fallbacks(tuple(models_of_step(step)), lambda name: models[name].fallback if name in models else ())
    found = (models.get(name) for name in names)
    return [None if model is None else structs.replace(model, ca_file=None, credential_env=None) for model in found]
