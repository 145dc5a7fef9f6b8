"""GGUF to safetensors, once: reading GGUF takes 20 s of pure Python for 135 M parameters, the result loads in 0.3 s."""

import hashlib
import importlib.util
import os
import shutil
import struct
import tempfile
from pathlib import Path

from agenttask.api.errors import ModelRejected, ModelUnavailable
from agenttask_models.folder import ModelFolder
from agenttask_models.libraries import load_torch, load_transformers

_NEEDED = ("gguf", "accelerate")
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""What a loaded model needs of its folder."""


def ready_folder(found: ModelFolder, cache: Path) -> ModelFolder:
    """The folder itself, or its GGUF file converted into `cache`, where it is found the next time; blocking."""
    target = converted_folder(found, cache)
    if found.gguf is not None and not target.config_file.is_file():
        convert(found, target.path)
    return target


def converted_folder(found: ModelFolder, cache: Path) -> ModelFolder:
    """Where the folder of safetensors is, or will be when the GGUF file is converted."""
    if found.gguf is None:
        return found
    source = found.path / found.gguf
    return ModelFolder(path=cache / f"{source.stem}-{_digest(source)}")


def convert(found: ModelFolder, target: Path) -> None:
    """Write the model as safetensors to `target`, which appears when it is whole; blocking.

    Raises:
        ModelUnavailable: GGUF cannot be read here.
        ModelRejected: the file is no GGUF that can be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch:
        made = Path(scratch) / "model"
        if found.gguf is None:
            _copy(found.path, made)
        else:
            try:
                _dequantise(found.path, found.gguf, made)
            except (OSError, ValueError, KeyError, struct.error) as error:  # what the readers raise for files that are cut or strange
                raise ModelRejected(f"{found.path / found.gguf} cannot be converted: {error}") from error
        try:
            made.rename(target)
        except OSError:  # another process was faster, or an empty folder waits there
            if not (target / "config.json").is_file():
                shutil.copytree(made, target, dirs_exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    for pattern in _PATTERNS:
        for file in sorted((*source.glob(pattern), *source.glob(f"*/{pattern}"))):
            copied = target / file.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)


def _dequantise(source: Path, gguf: str, target: Path) -> None:
    """The weights as bfloat16: nothing of a quantised model is lost in it, and it takes half of float32's room."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelUnavailable(
            f"{source / gguf} must be converted, which needs {' and '.join(missing)}; install agenttask[gguf], or convert it "
            "when the image is built: python -m agenttask_models.convert PACKAGE FOLDER"
        )
    # The runner has set the variable from the container's quota; where an image is built, there is the machine only.
    torch = load_torch(int(os.environ.get("OMP_NUM_THREADS") or max(1, len(os.sched_getaffinity(0)) - 1)))
    transformers = load_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=gguf, local_files_only=True, trust_remote_code=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf, dtype=torch.bfloat16, local_files_only=True, trust_remote_code=False
    )
    # save_pretrained refuses what it takes for quantised weights; by now they are plain.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
