"""`read`: UTF-8 files as text. `text` joins them with line breaks in the order of the paths, `files` maps name to content."""

from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.handing_on import Room, name_of
from agenttask_steps.rendered import RenderedRead


class ReadStep:
    """Reads files from inputs and workspace; a path may be a glob, a file that two of them match is read once."""

    schema = RenderedRead

    async def run(self, config: RenderedRead, context: StepContext) -> StepOutput:
        """Read them one after another: what is too large is found before the rest is in memory."""
        room = Room("the files have together", "read fewer, or `embed` them and `retrieve` what is needed")
        files: dict[str, str] = {}
        for pattern in config.paths:
            for path in await context.files.glob(pattern):
                name = name_of(path, context.workspace)
                if name not in files:
                    files[name] = room.take(await context.files.read_text(path))
                    room.take("\n")
        return StepOutput(text="\n".join(files.values()), files=files)
