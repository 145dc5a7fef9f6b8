"""Which AgentModels a task names."""

from collections.abc import Callable, Iterator, Sequence

from agenttask.api.steps import Step
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.templates import is_template


def models_named(spec: AgentTaskSpec) -> tuple[str, ...]:
    """The names in the order of the steps, each once.

    A third party's step names its model in the field `model` of `with`; a model that is chosen by a template cannot be
    resolved before the pod exists, so there it is no name.
    """
    return tuple(dict.fromkeys(name for step in spec.steps for name in models_of_step(step)))


def with_fallbacks(named: Sequence[str], fallbacks_of: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """The named models, then those that they fall back to, each with the model it is a fallback of (empty for the named).

    A fallback's own fallbacks are not followed: a chain of them could call half of a namespace's models for one answer.
    """
    found = dict.fromkeys(named, "")
    for name in named:
        for fallback in fallbacks_of(name):
            found.setdefault(fallback, name)
    return found


def models_of_step(step: Step) -> Iterator[str]:
    """The names that one step has; one may come twice."""
    if step.chat is not None:
        yield from step.chat.models if step.chat.model is None else (step.chat.model,)
    if step.embed is not None:
        yield step.embed.model
    if step.plugin is not None:
        name = step.plugin.with_.get("model")
        if isinstance(name, str) and name and not is_template(name):
            yield name
