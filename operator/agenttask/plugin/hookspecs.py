"""The five hooks. Each is synchronous, called once at start, and returns `{name: factory}`; async lives in what is made."""

from collections.abc import Mapping

import pluggy

from agenttask.plugin.device import DeviceStrategyFactory
from agenttask.plugin.engine import ModelFactoryMaker
from agenttask.plugin.llm import LLMClientFactory
from agenttask.plugin.step import StepKindFactory
from agenttask.plugin.threading import ThreadingStrategyFactory

PROJECT = "agenttask"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's hook: `from agenttask.plugin.hookspecs import hookimpl`."""


@hookspec
def agenttask_device_strategies() -> Mapping[str, DeviceStrategyFactory]:  # type: ignore[empty-body]
    """Where a task may run: `{strategy name: factory() -> DeviceStrategy}`."""


@hookspec
def agenttask_threading_strategies() -> Mapping[str, ThreadingStrategyFactory]:  # type: ignore[empty-body]
    """On what blocking work runs: `{strategy name: factory(limits) -> ThreadingStrategy}`."""


@hookspec
def agenttask_llm_clients() -> Mapping[str, LLMClientFactory]:  # type: ignore[empty-body]
    """How a model is called: `{client name: factory(model, context) -> LLMClient}`."""


@hookspec
def agenttask_model_factories() -> Mapping[str, ModelFactoryMaker]:  # type: ignore[empty-body]
    """How weights become an engine: `{factory name: factory() -> ModelFactory}`."""


@hookspec
def agenttask_step_kinds() -> Mapping[str, StepKindFactory]:  # type: ignore[empty-body]
    """What a step can do: `{kind: factory() -> StepKind}`."""
