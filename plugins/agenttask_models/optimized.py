"""`optimized`: finds the weights, checks device and memory, loads them in a thread of their own, and gives the engine.

"Optimized" is what was measured to pay off: one engine a model with batching, float32 on processors, safetensors. Left
out is what was measured not to: quantising on the fly, compiling, pools of processes.
"""

import asyncio
import functools
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agenttask.api.errors import ModelRejected, OutOfMemory
from agenttask.plugin.engine import Engine, EngineConfig
from agenttask_models.conversion import ready_folder
from agenttask_models.device import check_device, dtype_of
from agenttask_models.embedding import EmbeddingEngine
from agenttask_models.embedding_model import EmbeddingModel
from agenttask_models.folder import ModelFolder, find
from agenttask_models.libraries import load_torch, load_transformers
from agenttask_models.text import TextEngine
from agenttask_models.text_model import TextModel
from agenttask_models.torch_errors import with_typed_memory_errors

ENV_CACHE = "AGENTTASK_MODEL_CACHE"
"""Where converted models are kept; a folder that is mounted or baked in makes the second load quick."""
_POOLING = "1_Pooling/config.json"


class OptimizedFactory:
    """Makes engines on torch."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        given = os.environ if environ is None else environ
        self._cache = Path(given.get(ENV_CACHE) or Path(tempfile.gettempdir()) / f"agenttask-models-{os.getuid()}")

    async def create(self, model_id: str, device: str, config: EngineConfig) -> Engine:
        """Load a model.

        Raises:
            ModelUnavailable: the weights, or the libraries to read them, are not there.
            DeviceUnavailable: the device is not there.
            ModelRejected: the weights are of another kind than `local.task`.
            OutOfMemory: they do not fit.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model-{model_id}")
        try:
            load = functools.partial(self._load, model_id, device, config)
            model = await asyncio.get_running_loop().run_in_executor(thread, load)
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)  # a load that runs ends by itself, into nothing
            raise
        if isinstance(model, TextModel):
            return TextEngine(model_id, model, thread)
        return EmbeddingEngine(model_id, model, thread)

    def _load(self, model_id: str, device: str, config: EngineConfig) -> TextModel | EmbeddingModel:
        """Cheap checks first: importing the libraries costs seconds, reading weights more."""
        found = find(config.local)
        _check_kind(model_id, found, config)
        torch = load_torch(config.threads)
        check_device(torch, device)
        folder = with_typed_memory_errors(torch, f"converting model {model_id!r}", lambda: ready_folder(found, self._cache))
        dtype = dtype_of(torch, config.local.dtype, device)
        if device == "cpu":
            _check_memory(model_id, folder.parameters() * dtype.itemsize, config.memory_bytes)
        kind: Any = TextModel if config.local.task == "Chat" else EmbeddingModel
        read = functools.partial(kind.load, model_id, folder.path, device=device, dtype=dtype, torch=torch)
        try:
            model: TextModel | EmbeddingModel = with_typed_memory_errors(
                torch, f"loading model {model_id!r}", lambda: read(transformers=load_transformers())
            )
        except (OSError, ValueError, KeyError) as error:  # what transformers raises for files that do not fit together
            raise ModelRejected(f"model {model_id!r} in {folder.path} cannot be loaded: {error}") from error
        return model


def _check_kind(model_id: str, found: ModelFolder, config: EngineConfig) -> None:
    """What `config.json` says of itself against `local.task`; a GGUF file is always a language model's."""
    architectures = [] if found.gguf is not None else list(found.config.get("architectures") or [])
    answers = found.gguf is not None or any(str(name).endswith("ForCausalLM") for name in architectures)
    is_a = (
        f"model {model_id!r} is {'a language model' if answers else 'no causal language model'} ({', '.join(architectures) or found.gguf})"
    )
    if answers != (config.local.task == "Chat"):
        raise ModelRejected(f"{is_a}; local.task is {config.local.task}")
    if not answers and (pooling := _pooling(found)) != "mean":
        raise ModelRejected(f"model {model_id!r} pools by {pooling}; only mean is supported")


def _pooling(found: ModelFolder) -> str:
    """How sentence-transformers would make one vector of the tokens'; mean where nothing is said."""
    settings = ModelFolder(path=found.path / "1_Pooling").config if (found.path / _POOLING).is_file() else {}
    modes = [str(name).removeprefix("pooling_mode_").removesuffix("_tokens") for name, on in settings.items() if on is True]
    chosen = [mode for mode in modes if mode != "include_prompt"]
    return ", ".join(chosen) or "mean"


def _check_memory(model_id: str, needed: int, limit: int | None) -> None:
    """Say it before the kernel does: an OOM kill takes the whole container and its reasons."""
    if limit is not None and needed > limit:
        raise OutOfMemory(
            f"the weights of model {model_id!r} take {needed >> 20} MiB, the container may use {limit >> 20} MiB; "
            "raise `pod.resources.limits.memory`, or set local.dtype to BFloat16"
        )
