"""One run of one step: its config rendered and checked, its kind run within its time, its failure made a typed error."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.errors import AgentTaskError, InvalidTask, OutOfMemory, OutputTooLarge, StepFailed
from agenttask.api.steps import Step
from agenttask.domain.rendering import render_tree
from agenttask.plugin.step import StepContext, StepKind, StepOutput
from agenttask.plugin.threading import ThreadingStrategy, WorkKind

_LARGE = 64 * 1024
"""Rendering with values of more characters than this leaves the event loop."""


async def run_step(
    index: int,
    step: Step,
    *,
    kind: StepKind,
    values: Mapping[str, Any],
    context: StepContext,
    crashed: Callable[[Exception], None],
) -> StepOutput:
    """The step's output.

    Args:
        index: the step's place in the spec, for messages.
        step: what to do.
        kind: what does it.
        values: what its templates see.
        context: what its kind is lent.
        crashed: told of an exception that is no error of ours, before it becomes one.

    Raises:
        AgentTaskError: the step failed.
    """
    config = await _config(index, step, kind, values, context.threads)
    try:
        async with asyncio.timeout(_seconds(step)) as scope:
            output = await kind.run(config, context)
    except AgentTaskError:
        raise
    except MemoryError as error:
        raise OutOfMemory("the runner found no memory for this step; raise `pod.resources.limits.memory`") from error
    except Exception as error:
        if scope.expired():
            raise _late(step) from error
        crashed(error)
        raise StepFailed(f"step kind {step.kind!r} failed with {type(error).__name__}: {error}") from error
    if scope.expired():  # the kind caught its own cancellation and went on
        raise _late(step)
    _bounded(output)
    return output


async def _config(index: int, step: Step, kind: StepKind, values: Mapping[str, Any], threads: ThreadingStrategy) -> Any:
    field = f"spec.steps[{index}].{'plugin.with' if step.plugin is not None else step.kind}"
    render = functools.partial(render_tree, field=field)
    if _size(values) > _LARGE:
        rendered = await threads.run(WorkKind.PYTHON_CPU, render, step.config, values)
    else:
        rendered = render(step.config, values)
    try:
        return msgspec.convert(rendered, kind.schema, strict=True)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        raise InvalidTask(f"{field}{path.rstrip('`')}", problem) from error


def _seconds(step: Step) -> float | None:
    return None if step.timeout_seconds is None else float(step.timeout_seconds)


def template_values(document_values: Mapping[str, Any], outputs: Mapping[str, StepOutput]) -> dict[str, Any]:
    """What templates see: the task's own values, and the outputs of ended steps."""
    return {**document_values, "steps": {name: output.as_template_value() for name, output in outputs.items()}}


def _size(values: Mapping[str, Any]) -> int:
    steps = values["steps"].values()
    return sum(len(step["text"]) + sum(map(len, step["files"].values())) for step in steps)


def _late(step: Step) -> StepFailed:
    return StepFailed(f"timed out after {step.timeout_seconds} s (timeoutSeconds)")


def _bounded(output: StepOutput) -> None:
    """What later steps are handed stays small enough to be rendered."""
    size = len(output.text.encode("utf-8", "surrogatepass"))
    if size > MAX_STEP_TEXT_BYTES:
        raise OutputTooLarge(f"the step's text has {size} bytes, at most {MAX_STEP_TEXT_BYTES} can be handed on; write it to a file")
