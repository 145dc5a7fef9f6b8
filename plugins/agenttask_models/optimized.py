"""`optimized`: finds the weights, chooses the device, checks memory, loads in a thread of its own, and gives the engine.

"Optimized" is what was measured to pay off: one engine a model with batching, float32 on processors, safetensors. Left
out is what was measured not to: quantising on the fly, compiling, pools of processes.
"""

import asyncio
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from agenttask.api.errors import ModelRejected
from agenttask.plugin.engine import Engine, EngineConfig, EngineIdentity
from agenttask_models.conversion import ready_folder
from agenttask_models.device import CPU, DeviceSelector, device_share
from agenttask_models.folder import ModelFolder, find
from agenttask_models.hub import hub_folder
from agenttask_models.isolated import IsolatedEngine
from agenttask_models.libraries import load_torch
from agenttask_models.loading import Loaded, identity_of, load, make_engine
from agenttask_models.probe import DeviceProbe, TorchProbe
from agenttask_models.torch_errors import with_typed_memory_errors

ENV_CACHE = "AGENTTASK_MODEL_CACHE"
"""Where converted and downloaded models are kept; a folder that is mounted or baked in makes the second load quick."""
_POOLING = "1_Pooling/config.json"


class OptimizedFactory:
    """Makes engines on torch; `probe` looks at the accelerators, `environ` is the runner's."""

    def __init__(self, environ: Mapping[str, str] | None = None, probe: Callable[[], DeviceProbe] | None = None) -> None:
        self._environ: Mapping[str, str] = os.environ if environ is None else environ
        self._cache = Path(self._environ.get(ENV_CACHE) or Path(tempfile.gettempdir()) / f"agenttask-models-{os.getuid()}")
        self._given_probe = probe

    async def identify(self, model_id: str, device: str, config: EngineConfig) -> EngineIdentity:
        """What `create` would make, and what it takes; in a process of its own the device is chosen there."""
        found = await self._find(config)
        _check_kind(model_id, found, config)
        identity = await asyncio.to_thread(identity_of, found, self._cache, device, config)
        if device == CPU or config.local.isolation == "Process":
            return identity
        return await asyncio.to_thread(self._on_device, model_id, device, config, identity)

    def _on_device(self, model_id: str, device: str, config: EngineConfig, identity: EngineIdentity) -> EngineIdentity:
        probe = self._probe(config)
        chosen = DeviceSelector(lambda: probe, config.log).select_device(model_id, config, wish=device)
        share = next((device_share(each, config) for each in probe.accelerators() if each.name == chosen), None)
        return msgspec.structs.replace(identity, device=chosen, device_bytes=share)

    async def create(self, model_id: str, device: str, config: EngineConfig) -> Engine:
        """Load a model.

        Raises:
            ModelUnavailable: the weights, or the libraries to read them, are not there.
            DeviceUnavailable: the device is not there.
            ModelRejected: the weights are of another kind than `local.task`.
            OutOfMemory: they do not fit.
        """
        if config.local.isolation == "Process":
            return await IsolatedEngine.start(model_id, device, config, {**self._environ, ENV_CACHE: str(self._cache)})
        found = await self._find(config)
        _check_kind(model_id, found, config)
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model-{model_id}")
        nobody = threading.Event()
        try:
            work = functools.partial(self._load, model_id, found, device, config, nobody)
            loaded = await asyncio.get_running_loop().run_in_executor(thread, work)
        except BaseException:
            nobody.set()  # a load that runs ends by itself, and lets go of what it made
            thread.shutdown(wait=False, cancel_futures=True)
            raise
        return make_engine(model_id, loaded, thread, config)

    def _load(self, model_id: str, found: ModelFolder, device: str, config: EngineConfig, nobody: threading.Event) -> Loaded:
        """Cheap checks first: importing the libraries costs seconds, reading weights more."""
        torch = load_torch(config.threads)
        chosen = device
        if device != CPU:
            chosen = DeviceSelector(lambda: self._probe(config), config.log).select_device(model_id, config, wish=device)
        folder = with_typed_memory_errors(torch, f"converting model {model_id!r}", lambda: ready_folder(found, self._cache))
        loaded = load(model_id, folder, chosen, config, torch)
        if nobody.is_set() and loaded.batch is not None:
            loaded.batch.close()
        return loaded

    async def _find(self, config: EngineConfig) -> ModelFolder:
        local = config.local
        hub = None if local.hub is None else await hub_folder(local.hub, self._cache, self._environ, allowed=config.hub)
        return await asyncio.to_thread(find, local, hub)

    def _probe(self, config: EngineConfig) -> DeviceProbe:
        return self._given_probe() if self._given_probe is not None else TorchProbe(load_torch(config.threads))


def _check_kind(model_id: str, found: ModelFolder, config: EngineConfig) -> None:
    """What `config.json` says of itself against `local.task`; a GGUF file is always a language model's."""
    architectures: list[Any] = [] if found.gguf is not None else list(found.config.get("architectures") or [])
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
