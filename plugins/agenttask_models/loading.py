"""From a folder of weights to an engine: what it will take, whether that fits, and the reading itself. Blocking, but for `make_engine`."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import Struct

from agenttask.api.errors import ModelRejected
from agenttask.api.model import LocalModel
from agenttask.domain.quantity import amount
from agenttask.plugin.engine import Engine, EngineConfig, EngineIdentity
from agenttask_models.batch import CPU_PAGE, CPU_STEP_TOKENS, CUDA_PAGE, CUDA_STEP_TOKENS, Batch
from agenttask_models.checkpoint import check_dtypes, read_checkpoint
from agenttask_models.conversion import converted_folder
from agenttask_models.device import CPU, dtype_of, limit_memory
from agenttask_models.embedding import EmbeddingEngine
from agenttask_models.embedding_model import EmbeddingModel
from agenttask_models.folder import ModelFolder
from agenttask_models.libraries import load_transformers
from agenttask_models.memory import FEWEST_BLOCKS, Attention, check_weights, plan_cache
from agenttask_models.text import TextEngine
from agenttask_models.text_model import TextModel
from agenttask_models.torch_errors import with_typed_memory_errors

_ITEMSIZE = {"Float32": 4, "BFloat16": 2, "Float16": 2}
_GGUF_GROWTH = 7
"""What a file of some 5 bits a number becomes in float32; guessed until it is converted once."""


class Loaded(Struct, frozen=True, kw_only=True):
    """Weights in memory; `batch` runs, for a language model."""

    model: Any
    batch: Any = None
    device: str
    weights: int


def identity_of(found: ModelFolder, cache: Path, device: str, config: EngineConfig) -> EngineIdentity:
    """What is known of an engine before it is loaded; reads headers and `config.json` only."""
    local = config.local
    itemsize = _itemsize(local, device)
    if found.gguf is not None and not (found := converted_folder(source := found, cache)).config_file.is_file():
        gguf = source.path / str(source.gguf)
        needed, digest = gguf.stat().st_size * _GGUF_GROWTH * itemsize // 4, found.path.name
    else:
        checkpoint = read_checkpoint(found.path)
        needed, digest = checkpoint.parameters * itemsize, checkpoint.digest
        if local.task == "Chat":
            needed += _least_cache(found.config, itemsize, local)
    return EngineIdentity(
        source=f"{found.path}@{digest}",
        dtype=local.dtype if local.dtype != "Auto" else "Float32" if device == CPU else "Auto",
        device=device,
        quantisation=found.quantisation if found.config_file.is_file() else "gguf",
        memory_bytes=needed,
    )


def _itemsize(local: LocalModel, device: str) -> int:
    return _ITEMSIZE.get(local.dtype, 4 if device == CPU else 2)


def _least_cache(config: Mapping[str, Any], itemsize: int, local: LocalModel) -> int:
    """Bytes of the smallest attention cache; 0 where the configuration is too strange to tell: loading will."""
    if local.memory is not None:
        return int(amount(str(local.memory)))
    try:
        settings = type("Settings", (), dict(config))
        return FEWEST_BLOCKS * CPU_PAGE * Attention.of(settings).token_bytes(itemsize, CPU_STEP_TOKENS)
    except (AttributeError, TypeError, ZeroDivisionError):
        return 0


def load(model_id: str, folder: ModelFolder, device: str, config: EngineConfig, torch: Any) -> Loaded:
    """Read the weights, and start the batch of a language model.

    Raises:
        OutOfMemory: weights or cache do not fit; said before the kernel kills.
        ModelRejected: the files are broken, or of another kind.
    """
    what = f"model {model_id!r}"
    checkpoint = folder.checkpoint()
    if folder.quantisation != "none":
        raise ModelRejected(f"{what} is quantised ({folder.quantisation}); use a plain checkpoint, or a GGUF file, which is converted")
    check_dtypes(checkpoint, what)
    dtype = dtype_of(torch, config.local.dtype, device)
    weights = checkpoint.parameters * dtype.itemsize
    limit_memory(torch, device, config)
    available = config.memory_bytes if device == CPU else _device_memory(torch, device, config)
    check_weights(what, weights, available)
    try:
        return with_typed_memory_errors(
            torch,
            f"loading {what}",
            lambda: _read(model_id, folder.path, device, dtype, config, torch, weights=weights, available=available),
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
    ) as error:  # transformers, of files that do not fit together
        raise ModelRejected(f"{what} in {folder.path} cannot be loaded: {error}") from error


def _device_memory(torch: Any, device: str, config: EngineConfig) -> int:
    """What is free on the device, at most our share of it."""
    free, total = torch.cuda.mem_get_info(device)
    ours = int(total * config.gpu_memory_fraction / config.device_processes) - int(torch.cuda.memory_reserved(device))
    return min(int(free), ours)


def _read(
    model_id: str, path: Path, device: str, dtype: Any, config: EngineConfig, torch: Any, *, weights: int, available: int | None
) -> Loaded:
    local, transformers = config.local, load_transformers()
    if local.task == "Embedding":
        model = EmbeddingModel.load(
            model_id,
            path,
            device=device,
            dtype=dtype,
            torch=torch,
            transformers=transformers,
            max_batch=local.max_batch,
            workers=_workers(device, config),
        )
        return Loaded(model=model, device=device, weights=weights)
    text = TextModel.load(model_id, path, device=device, dtype=dtype, transformers=transformers)
    # The batch's thread would compute with as many threads as were set last anywhere, which may be an embedding model's.
    text.weights.register_forward_pre_hook(lambda *_: torch.set_num_threads(config.threads))
    on_cpu = device == CPU
    plan = plan_cache(
        f"model {model_id!r}",
        token_bytes=text.attention.token_bytes(dtype.itemsize, CPU_STEP_TOKENS if on_cpu else CUDA_STEP_TOKENS),
        page=CPU_PAGE if on_cpu else CUDA_PAGE,
        wanted_tokens=local.max_batch * text.window,
        available=available,
        asked=None if local.memory is None else int(amount(str(local.memory))),
        weights=weights,
    )
    batch = Batch(model_id, text.weights, plan, slots=local.max_batch, stops=text.stops, torch=torch, transformers=transformers)
    batch.open()
    return Loaded(model=text, batch=batch, device=device, weights=weights)


def _workers(device: str, config: EngineConfig) -> int:
    """Batches of an embedding model that run at once: one a thread on processors; a CUDA device is full with one."""
    return config.threads if device == CPU else 1


def make_engine(model_id: str, loaded: Loaded, thread: ThreadPoolExecutor, config: EngineConfig) -> Engine:
    """The engine of what was loaded in `thread`."""
    local = config.local
    if loaded.batch is None:
        thread.shutdown(wait=False)
        workers = _workers(loaded.device, config)
        return EmbeddingEngine(
            model_id,
            loaded.model,
            ThreadPoolExecutor(workers, thread_name_prefix=f"model-{model_id}", initializer=loaded.model.enter_thread),
            workers=workers,
            max_batch=local.max_batch,
            device=loaded.device,
            weights=loaded.weights,
        )
    return TextEngine(model_id, loaded.model, loaded.batch, thread, slots=local.max_batch, device=loaded.device, weights=loaded.weights)
