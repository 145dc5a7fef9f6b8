"""The rules of a step's common fields: `when`, `forEach`, `parallelism`, time-outs, `keepFiles`; and which names its templates see."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from agenttask.api.errors import InvalidTask, StepFailed
from agenttask.api.steps import Step
from agenttask.api.task import AgentTaskSpec
from agenttask.domain import templates
from agenttask.domain.graph import StepGraph
from agenttask.domain.language import Scope
from agenttask.domain.nearest import quoted
from agenttask.domain.seconds import as_seconds

MAX_CONFIG_DEPTH: Final = 32


def check_step(index: int, spec: AgentTaskSpec, graph: StepGraph) -> None:
    """Refuse common fields that contradict each other, and templates that leave the language or name what they cannot see.

    Raises:
        InvalidTask: with the path of the field; InvalidTemplate for templates.
    """
    step, field = spec.steps[index], f"spec.steps[{index}]"
    ended = [graph.names[ancestor] for ancestor in sorted(graph.ancestors(index))]
    later = [name for name in graph.names if name not in ended and name != step.name]
    before = Scope(params=spec.params, steps=ended, later=later)
    inside = Scope(params=spec.params, steps=ended, later=later, extra=_extra(step))
    for name, source in (("when", step.when), ("forEach", step.for_each)):
        if source:
            templates.parse_expression(source, field=f"{field}.{name}", scope=before)
    if step.parallelism > 1 and not step.for_each:
        raise InvalidTask(f"{field}.parallelism", "is how many items run at once; give `forEach`, or remove it")
    if step.timeout_seconds is not None:
        _check_seconds(step.timeout_seconds, f"{field}.timeoutSeconds", inside)
    if step.exec is not None and step.exec.wait_file is not None:
        _check_seconds(step.exec.wait_file.timeout_seconds, f"{field}.exec.waitFile.timeoutSeconds", inside)
    for position, pattern in enumerate(step.keep_files):
        _check_kept(pattern, f"{field}.keepFiles[{position}]", inside)
    literal = templates.LITERAL_FIELDS if step.plugin is None else ()
    for path, text in strings(step.config, config_field(index, step), literal=literal):
        templates.check(text, field=path, scope=inside)


def config_field(index: int, step: Step) -> str:
    """The path of the kind's own fields."""
    return f"spec.steps[{index}].{'plugin.with' if step.plugin is not None else step.kind}"


def strings(value: Any, path: str, *, literal: Sequence[str] | frozenset[str] = (), depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every string in a config with its path; keys are no templates, and nothing below a `literal` key is."""
    if depth > MAX_CONFIG_DEPTH:
        raise InvalidTask(path, f"nested more than {MAX_CONFIG_DEPTH} deep")
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in literal:
                yield from strings(item, f"{path}.{key}", literal=literal, depth=depth + 1)
    elif isinstance(value, Sequence):
        for position, item in enumerate(value):
            yield from strings(item, f"{path}[{position}]", literal=literal, depth=depth + 1)


def _extra(step: Step) -> tuple[str, ...]:
    """The names of `language.SOMETIMES` that this step's templates have."""
    items = ("item", "index") if step.for_each else ()
    previous = ("previous",) if step.for_each and step.parallelism == 1 else ()
    return (*items, *previous, *(("lastError",) if step.retry is not None else ()))


def _check_seconds(value: int | str, field: str, scope: Scope) -> None:
    if isinstance(value, str) and templates.is_template(value):
        templates.check(value, field=field, scope=scope)
        return
    try:
        as_seconds(value, field=field)
    except StepFailed as error:
        raise InvalidTask(field, f"{str(error).removeprefix(f'{field}: ')}; give one, or a template that renders to one") from None


def _check_kept(pattern: str, field: str, scope: Scope) -> None:
    templates.check(pattern, field=field, scope=scope)
    path = PurePosixPath(pattern)
    if not pattern or path.is_absolute() or ".." in path.parts:
        raise InvalidTask(field, f"{quoted(pattern)} is no path below the workspace; give a relative one without `..`, as `out/*.json`")
