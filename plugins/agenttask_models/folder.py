"""Where a model's files are: in an installed package (found, never imported: importing runs code) or at a path.

Only weights as safetensors are loaded: the older format of torch runs code when it is read.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from agenttask.api.errors import ModelRejected, ModelUnavailable
from agenttask.api.model import LocalModel
from agenttask_models.checkpoint import Checkpoint, read_checkpoint

_DEEPEST = 3
"""Folders below the package in which weights are looked for."""


class ModelFolder(Struct, frozen=True, kw_only=True):
    """A folder with `config.json` and safetensors, or one with a GGUF file that is still to be converted."""

    path: Path
    gguf: str | None = None

    @property
    def config_file(self) -> Path:
        """Where `config.json` is, or would be."""
        return self.path / "config.json"

    @property
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            ModelRejected: it is no JSON object.
        """
        try:
            config = json.loads(self.config_file.read_bytes())
        except ValueError as error:
            raise ModelRejected(f"{self.config_file} is no JSON: {error}") from error
        except OSError as error:
            raise ModelRejected(f"{self.config_file} cannot be read: {error.strerror}; check the file's mode and owner") from error
        if not isinstance(config, dict):
            raise ModelRejected(f"{self.config_file} is no JSON object")
        return config

    def checkpoint(self) -> Checkpoint:
        """What the headers of the weights say.

        Raises:
            ModelRejected: a file cannot be read, or is cut.
        """
        return read_checkpoint(self.path)

    @property
    def quantisation(self) -> str:
        """How the weights are quantised, by `config.json` or the GGUF file's name; `none` where they are plain."""
        if self.gguf is not None:
            return f"gguf {self.gguf.removesuffix('.gguf').rpartition('.')[2]}"
        settings = self.config.get("quantization_config")
        return str(settings.get("quant_method") or "unknown") if isinstance(settings, dict) else "none"


def find(local: LocalModel, hub: Path | None = None) -> ModelFolder:
    """The folder that an AgentModel means; `hub` is where its hub's snapshot is.

    Raises:
        ModelUnavailable: there is no such package or path.
        ModelRejected: it holds no weights that can be loaded.
    """
    root, what = _root(local) if hub is None else (hub, f"local.hub {local.hub.repository if local.hub else ''!r}")
    for folder in _folders(root):
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return ModelFolder(path=folder)
    for folder in _folders(root):
        for file in sorted(folder.glob("*.gguf")):
            return ModelFolder(path=folder, gguf=file.name)
    raise ModelRejected(
        f"{what} holds no weights: a config.json beside *.safetensors, or a *.gguf, is needed; other formats are not loaded"
    )


def _root(local: LocalModel) -> tuple[Path, str]:
    if local.path is not None:
        path = Path(local.path)
        if path.is_file() and path.suffix == ".gguf":
            path = path.parent
        if not path.is_dir():
            raise ModelUnavailable(f"local.path {local.path!r} is no folder in this container; use an image that has it, or mount it")
        return path, f"local.path {local.path!r}"
    if local.persistent_volume_claim is not None:
        raise ModelUnavailable(
            f"local.persistentVolumeClaim {local.persistent_volume_claim.claim_name!r} is mounted in a pod only; use local.path"
        )
    package = local.package or ""
    module = package.replace("-", "_").replace(".", "_")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ModelUnavailable(
            f"local.package {package!r} is not installed here (looked for the module {module!r}); use an image that has it"
        )
    return Path(next(iter(found.submodule_search_locations))), f"local.package {package!r}"


def _folders(root: Path) -> Iterator[Path]:
    """The folder and those below it, nearest first."""
    level = [root]
    for _ in range(_DEEPEST):
        yield from level
        level = [child for folder in level for child in _children(folder)]


def _children(folder: Path) -> list[Path]:
    """Folders in a folder that may be listed."""
    try:
        return [child for child in sorted(folder.iterdir()) if child.is_dir()]
    except OSError:
        return []
