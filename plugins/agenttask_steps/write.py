"""`write`: one file below the workspace, atomically. `text` is its name, as later steps may use it."""

from agenttask.plugin.step import StepContext, StepOutput
from agenttask.plugin.threading import WorkKind
from agenttask_steps.exclusive import held
from agenttask_steps.handing_on import name_of
from agenttask_steps.rendered import RenderedWrite


class WriteStep:
    """Writes one file."""

    schema = RenderedWrite

    async def run(self, config: RenderedWrite, context: StepContext) -> StepOutput:
        """Write it; a reader sees the old file or the new one, never half of it."""
        target = await context.threads.run(WorkKind.BLOCKING_IO, context.files.writable, config.path)
        async with held(context.locks, {target: config.path}, context.log):
            written = await context.files.write_text(config.path, config.content)
        return StepOutput(text=name_of(written, context.workspace))
