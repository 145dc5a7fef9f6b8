"""The built-in model factory `optimized`: weights of a causal language model or an embedding model, on torch.

torch and transformers are imported when the first model is loaded, in its engine's thread (`libraries.py`), never before:
the plugin costs nothing where no local model is used, and loads where torch is not installed.
"""

from collections.abc import Mapping

from agenttask.plugin.engine import ModelFactoryMaker
from agenttask.plugin.hookspecs import hookimpl
from agenttask_models.optimized import OptimizedFactory


@hookimpl
def agenttask_model_factories() -> Mapping[str, ModelFactoryMaker]:
    """One maker a factory."""
    return {"optimized": OptimizedFactory}
