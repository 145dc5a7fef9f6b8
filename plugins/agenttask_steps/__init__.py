"""The built-in step kinds: read, write, exec, chat, embed, retrieve, fetch, git."""

from collections.abc import Mapping

from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.step import StepKind, StepKindFactory
from agenttask_steps.chat import ChatStep
from agenttask_steps.embed import EmbedStep
from agenttask_steps.exec import ExecStep
from agenttask_steps.git import GitStep
from agenttask_steps.read import ReadStep
from agenttask_steps.retrieve import RetrieveStep
from agenttask_steps.write import WriteStep


@hookimpl
def agenttask_step_kinds() -> Mapping[str, StepKindFactory]:
    """One factory a kind."""
    return {
        "read": ReadStep,
        "write": WriteStep,
        "exec": ExecStep,
        "chat": ChatStep,
        "embed": EmbedStep,
        "retrieve": RetrieveStep,
        "fetch": _fetch,
        "git": GitStep,
    }


def _fetch() -> StepKind:
    from agenttask_steps.fetch import FetchStep  # with it aiohttp, a fifth of a second that other steps need not spend

    return FetchStep()
