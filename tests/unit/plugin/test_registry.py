"""Plugins load through one door: what is misspelt, given twice or not allowed never passes in silence."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pluggy
import pytest

from agenttask.api.errors import UnknownPlugin
from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.registry import Catalogue, PluginConflict, load


class Distribution:
    """As much of an installed distribution as an entry point has."""

    def __init__(self, name: str) -> None:
        self.name = name


class Found(EntryPoint):
    """An entry point that gives a module made in a test."""

    def load(self) -> Any:
        return self.__dict__["module"]


def found(name: str, distribution: str | None, **hooks: Callable[..., Any]) -> EntryPoint:
    module = ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, hookimpl(function))
    entry = Found(name=name, value=name, group="agenttask")
    entry.__dict__["module"] = module
    entry.__dict__["dist"] = None if distribution is None else Distribution(distribution)
    return entry


def test_a_factory_is_chosen_by_its_name():
    plugins = load(found=[found("a", "d", agenttask_step_kinds=lambda: {"x": "factory"})])
    assert (plugins.step_kinds.names, plugins.step_kinds.choose("x")) == (("x",), "factory")


def test_every_hook_has_a_catalogue():
    hooks = {
        "agenttask_device_strategies": "device_strategies",
        "agenttask_threading_strategies": "threading_strategies",
        "agenttask_llm_clients": "llm_clients",
        "agenttask_model_factories": "model_factories",
        "agenttask_step_kinds": "step_kinds",
    }
    plugins = load(found=[found("a", "d", **{hook: (lambda hook=hook: {hook: hook}) for hook in hooks})])
    assert [getattr(plugins, catalogue).names for catalogue in hooks.values()] == [(hook,) for hook in hooks]


def test_an_unknown_name_is_refused_with_those_installed_and_the_nearest():
    with pytest.raises(UnknownPlugin) as caught:
        Catalogue("step kind", {"word-count": 1, "chat": 2}).choose("word-cuont")
    assert str(caught.value) == "no step kind is called 'word-cuont'; installed: chat, word-count; did you mean 'word-count'?"


def test_an_unknown_name_where_nothing_is_installed_says_so():
    with pytest.raises(UnknownPlugin, match=r"^no LLM client is called 'x'; installed: none$"):
        load(found=[]).llm_clients.choose("x")


def test_a_misspelt_hook_is_an_error():
    with pytest.raises(pluggy.PluginValidationError, match="agenttask_step_kind'"):
        load(found=[found("a", "d", agenttask_step_kind=lambda: {"x": 1})])


def test_a_hook_with_other_arguments_is_an_error():
    with pytest.raises(pluggy.PluginValidationError, match="Argument"):
        load(found=[found("a", "d", agenttask_step_kinds=lambda extra: {})])


def test_a_name_that_two_plugins_give_is_an_error_that_names_both():
    both = [found("one", "d1", agenttask_step_kinds=lambda: {"x": 1}), found("two", "d2", agenttask_step_kinds=lambda: {"x": 2})]
    with pytest.raises(PluginConflict, match=r"step kind 'x' is given by 'd.:(one|two)' and by 'd.:(one|two)'; remove one"):
        load(found=both)


def test_the_same_name_in_two_hooks_is_no_conflict():
    plugins = load(found=[found("a", "d", agenttask_step_kinds=lambda: {"x": 1}, agenttask_llm_clients=lambda: {"x": 2})])
    assert (plugins.step_kinds.choose("x"), plugins.llm_clients.choose("x")) == (1, 2)


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        pytest.param(None, ("mine", "nobodys", "yours"), id="all"),
        pytest.param(["mine"], ("mine",), id="one"),
        pytest.param([], (), id="none"),
    ],
)
def test_only_allowed_distributions_load(allowed: list[str] | None, names: tuple[str, ...]):
    entries = [
        found("a", "mine", agenttask_step_kinds=lambda: {"mine": 1}),
        found("b", "yours", agenttask_step_kinds=lambda: {"yours": 1}),
        found("c", None, agenttask_step_kinds=lambda: {"nobodys": 1}),
    ]
    assert load(allowed_distributions=allowed, found=entries).step_kinds.names == names


def test_a_plugin_that_is_not_allowed_is_not_even_imported():
    entry = Found(name="a", value="does.not.exist", group="agenttask")
    entry.__dict__["dist"] = Distribution("yours")
    assert load(allowed_distributions=["mine"], found=[entry]).step_kinds.names == ()


def test_the_built_in_plugins_load_through_their_entry_points():
    plugins = load(allowed_distributions=["agenttask"])
    assert plugins.device_strategies.names == ("auto", "cheapest", "cpu", "gpu", "smallest")
    assert plugins.threading_strategies.names == ("async", "hybrid", "process")
    assert {"openai", "local", "scripted"} <= set(plugins.llm_clients.names)
    assert "optimized" in plugins.model_factories.names
    assert plugins.step_kinds.names == ("chat", "embed", "exec", "fetch", "git", "read", "retrieve", "write")
