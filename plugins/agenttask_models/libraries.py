"""The one place that imports torch and transformers: late, offline, and with what they read at import set first.

torch sizes its pools from the node, not from the container's quota, and reads OMP_NUM_THREADS while it is imported.
"""

import logging
import os
from typing import Any

from agenttask.api.errors import ModelUnavailable

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # progress bars in a pod's log; tqdm reads it while torch imports it
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking whether there is CUDA must not initialise it: that poisons forks
}
_UNLESS_SET = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Less fragmentation: a rebuilt attention cache of half the size must fit where the whole one was."""


def load_torch(threads: int) -> Any:
    """torch, with its threads set: for the calling thread, and for those that first compute after it.

    Raises:
        ModelUnavailable: it is not installed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.update(_ENVIRONMENT)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
    try:
        import torch
    except ImportError as error:
        raise _missing("torch", error) from error
    torch.set_num_threads(threads)
    return torch


def load_transformers() -> Any:
    """transformers, kept from the network and from talking.

    Raises:
        ModelUnavailable: it is not installed.
    """
    os.environ.update(_ENVIRONMENT)
    try:
        import transformers
    except ImportError as error:
        raise _missing("transformers", error) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # It has a handler of its own, and shows tokens of prompts; what ends a batch is told by our errors.
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
    return transformers


def _missing(name: str, error: ImportError) -> ModelUnavailable:
    return ModelUnavailable(
        f"local models need {name}, which cannot be imported ({error}); use the runner image with torch, or install agenttask[inference]"
    )
