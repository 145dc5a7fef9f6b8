"""Loading plugins, and choosing one by name with an error that helps.

Plugins are found as entry points of the group `agenttask`; only allow-listed distributions load where a list is given
(the controller gives one: plugins run with its power). `check_pending` makes a misspelt hook an error, and a name that
two plugins give is one too.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import pluggy

from agenttask.api.errors import UnknownPlugin
from agenttask.plugin import hookspecs
from agenttask.plugin.device import DeviceStrategyFactory
from agenttask.plugin.engine import ModelFactoryMaker
from agenttask.plugin.llm import LLMClientFactory
from agenttask.plugin.step import StepKindFactory
from agenttask.plugin.threading import ThreadingStrategyFactory

ENTRY_POINT_GROUP = "agenttask"
F = TypeVar("F")


class PluginConflict(Exception):
    """Two plugins give the same name."""


class Catalogue(Generic[F]):
    """The factories of one hook, by name."""

    def __init__(self, what: str, factories: Mapping[str, F]) -> None:
        self._what = what
        self._factories = dict(sorted(factories.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """What there is, sorted."""
        return tuple(self._factories)

    def choose(self, name: str) -> F:
        """The factory called `name`.

        Raises:
            UnknownPlugin: there is none; the message lists those there are and the nearest.
        """
        try:
            return self._factories[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._factories, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(self._factories) or "none"
            raise UnknownPlugin(f"no {self._what} is called {name!r}; installed: {known}{hint}") from None


class Plugins:
    """Every plugin that is loaded, one catalogue a hook."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        hook = manager.hook
        self.device_strategies: Catalogue[DeviceStrategyFactory] = _merge("device strategy", hook.agenttask_device_strategies)
        self.threading_strategies: Catalogue[ThreadingStrategyFactory] = _merge("threading strategy", hook.agenttask_threading_strategies)
        self.llm_clients: Catalogue[LLMClientFactory] = _merge("LLM client", hook.agenttask_llm_clients)
        self.model_factories: Catalogue[ModelFactoryMaker] = _merge("model factory", hook.agenttask_model_factories)
        self.step_kinds: Catalogue[StepKindFactory] = _merge("step kind", hook.agenttask_step_kinds)


def _merge(what: str, hook: pluggy.HookCaller) -> Catalogue[Any]:
    found: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for implementation in hook.get_hookimpls():
        given: Mapping[str, Any] = implementation.function()  # type: ignore[assignment]  # pluggy types it as object
        for name, factory in given.items():
            if name in found:
                raise PluginConflict(f"{what} {name!r} is given by {owners[name]!r} and by {implementation.plugin_name!r}; remove one")
            found[name], owners[name] = factory, implementation.plugin_name
    return Catalogue(what, found)


def load(
    *,
    allowed_distributions: Collection[str] | None = None,
    found: Iterable[EntryPoint] | None = None,
) -> Plugins:
    """Load the plugins of the installed distributions; `None` allows all.

    Raises:
        pluggy.PluginValidationError: a plugin implements a hook that does not exist, or with other arguments.
        PluginConflict: two plugins give the same name.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for entry in entry_points(group=ENTRY_POINT_GROUP) if found is None else found:
        distribution = entry.dist.name if entry.dist is not None else ""
        if allowed_distributions is None or distribution in allowed_distributions:
            manager.register(entry.load(), name=f"{distribution}:{entry.name}")
    manager.check_pending()
    return Plugins(manager)
