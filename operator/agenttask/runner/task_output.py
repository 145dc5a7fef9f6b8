"""The task's output: `spec.output` with what the steps brought, or the text of the last one."""

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

from agenttask.api.constants import MAX_RENDERED_BYTES
from agenttask.api.errors import OutputTooLarge
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.rendering import render
from agenttask.domain.utf8 import utf8_length
from agenttask.plugin.step import StepOutput
from agenttask.plugin.threading import ThreadingStrategy, WorkKind
from agenttask.runner.stepping import off_loop_if_large, template_values
from agenttask.runner.steps import Steps


async def task_output(spec: AgentTaskSpec, steps: Steps, values: Mapping[str, Any], *, threads: ThreadingStrategy, most_bytes: int) -> str:
    """What can be told: UTF-8.

    Args:
        spec: of the task.
        steps: that have run.
        values: that templates see besides.
        threads: for what is too large for the loop.
        most_bytes: that an object store takes; 0 where there is none.

    Raises:
        InvalidTemplate, StepFailed, OutputTooLarge: as `render`; or it is no text that can be told.
    """
    if spec.output is None:
        output = steps.outputs[spec.steps[-1].name].text
    else:
        rendering = functools.partial(_render, spec.output, values, steps.outputs, max(MAX_RENDERED_BYTES, most_bytes))
        if most_bytes:  # small outputs may be rendered into a large one
            output = await threads.run(WorkKind.PYTHON_CPU, rendering)
        else:
            output = await off_loop_if_large(sum(steps.weights.values()), threads)(rendering)
    try:
        if len(output) > MAX_RENDERED_BYTES:
            await asyncio.to_thread(utf8_length, output)
        else:
            utf8_length(output)
    except UnicodeEncodeError as error:
        raise OutputTooLarge(f"the output cannot be told: half of a surrogate pair at character {error.start}") from error
    return output


def _render(template: str, values: Mapping[str, Any], outputs: Mapping[str, StepOutput], limit: int) -> str:
    return render(template, template_values(values, outputs), field="spec.output", limit=limit)
