"""A third party's plugin: the device strategy `spot-first` and the step kind `word-count`.

The module that the entry point names has the hooks; a hook returns factories by name and does nothing else.
"""

from collections.abc import Mapping

from agenttask.plugin.device import DeviceStrategyFactory
from agenttask.plugin.hookspecs import hookimpl
from agenttask.plugin.step import StepKindFactory
from agenttask_example.spot_first import SpotFirst
from agenttask_example.word_count import WordCount


@hookimpl
def agenttask_device_strategies() -> Mapping[str, DeviceStrategyFactory]:
    """Loaded in the controller (and in the runner, for the torch device)."""
    return {"spot-first": SpotFirst}


@hookimpl
def agenttask_step_kinds() -> Mapping[str, StepKindFactory]:
    """Loaded in the controller for its name, and in the runner to run."""
    return {"word-count": WordCount}
