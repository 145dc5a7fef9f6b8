"""One try of one step or item: its config rendered and checked, its kind run within its time, its failure made a typed error."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from agenttask.api.errors import AgentTaskError, InvalidTask, OutOfMemory, StepFailed
from agenttask.api.steps import Step
from agenttask.domain.compiling import Programs
from agenttask.domain.rendering import render, render_tree
from agenttask.domain.seconds import as_seconds
from agenttask.domain.step_rules import config_field
from agenttask.domain.templates import LITERAL_FIELDS
from agenttask.plugin.step import StepContext, StepKind, StepOutput
from agenttask.plugin.threading import ThreadingStrategy, WorkKind
from agenttask.runner.handing_on import bounded

OffLoop = Callable[[Callable[[], Any]], Awaitable[Any]]
_LARGE = 64 * 1024
"""Rendering with outputs of more bytes than this leaves the event loop."""


class Prepared(Struct, frozen=True, kw_only=True):
    """What one try does: the kind's config, and its time."""

    config: Any
    seconds: int | None


async def prepare(index: int, step: Step, kind: StepKind, values: Mapping[str, Any], programs: Programs, off_loop: OffLoop) -> Prepared:
    """Render and check what the step is to do; `programs` are those of its templates.

    Raises:
        AgentTaskError: a template or its value is no good; trying again would not help.
    """
    field = config_field(index, step)
    literal = LITERAL_FIELDS if step.plugin is None else frozenset[str]()
    rendered = await off_loop(functools.partial(render_tree, step.config, values, field=field, literal=literal, programs=programs))
    try:
        config = msgspec.convert(rendered, kind.schema, strict=True)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        raise InvalidTask(f"{field}{path.rstrip('`')}", problem) from error
    return Prepared(config=config, seconds=_seconds(index, step, values, programs))


async def run_once(
    step: Step, prepared: Prepared, *, kind: StepKind, context: StepContext, crashed: Callable[[Exception], None]
) -> StepOutput:
    """The step's output.

    Args:
        step: what it is, for messages.
        prepared: what to do.
        kind: what does it.
        context: what its kind is lent.
        crashed: told of an exception that is no error of ours, before it becomes one.

    Raises:
        AgentTaskError: the step failed.
    """
    try:
        async with asyncio.timeout(prepared.seconds) as scope:
            output = await kind.run(prepared.config, context)
    except AgentTaskError:
        raise
    except MemoryError as error:
        raise OutOfMemory("the runner found no memory for this step; raise `pod.resources.limits.memory`") from error
    except Exception as error:
        if scope.expired():
            raise _late(prepared) from error
        crashed(error)
        raise StepFailed(f"step kind {step.kind!r} failed with {type(error).__name__}: {error}") from error
    if scope.expired():  # the kind caught its own cancellation and went on
        raise _late(prepared)
    bounded(output)
    return output


def off_loop_if_large(weight: int, threads: ThreadingStrategy) -> OffLoop:
    """Runs functions that render with outputs of this weight: beside the event loop where that is much."""

    async def run(function: Callable[[], Any]) -> Any:
        return await threads.run(WorkKind.PYTHON_CPU, function) if weight > _LARGE else function()

    return run


def template_values(document_values: Mapping[str, Any], outputs: Mapping[str, StepOutput]) -> dict[str, Any]:
    """What templates see: the task's own values, and the outputs of ended steps."""
    return {**document_values, "steps": {name: output.as_template_value() for name, output in outputs.items()}}


def _seconds(index: int, step: Step, values: Mapping[str, Any], programs: Programs) -> int | None:
    if step.timeout_seconds is None:
        return None
    field, given = f"spec.steps[{index}].timeoutSeconds", step.timeout_seconds
    return as_seconds(render(given, values, field=field, programs=programs) if isinstance(given, str) else given, field=field)


def _late(prepared: Prepared) -> StepFailed:
    return StepFailed(f"timed out after {prepared.seconds} s (timeoutSeconds)")
