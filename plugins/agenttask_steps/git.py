"""`git`: one operation, exactly one of `clone`, `commit` and `diff`; the repository is the step's own while it runs."""

from agenttask.api.errors import InvalidTask
from agenttask.plugin.step import StepContext, StepOutput
from agenttask_steps.addresses import Lookup, system_lookup
from agenttask_steps.git_clone import clone
from agenttask_steps.git_commit import commit
from agenttask_steps.git_diff import diff
from agenttask_steps.rendered import RenderedGit


class GitStep:
    """Runs git; `lookup` resolves the names of hosts."""

    schema = RenderedGit

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup

    async def run(self, config: RenderedGit, context: StepContext) -> StepOutput:
        """Do the one that is given."""
        match config:
            case RenderedGit(clone=wanted, commit=None, diff=None) if wanted is not None:
                return await clone(wanted, context, self._lookup)
            case RenderedGit(clone=None, commit=wanted, diff=None) if wanted is not None:
                return await commit(wanted, context)
            case RenderedGit(clone=None, commit=None, diff=wanted) if wanted is not None:
                return await diff(wanted, context)
        raise InvalidTask("git", "exactly one of `clone`, `commit` and `diff` is needed")
