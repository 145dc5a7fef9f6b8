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

_DEEPEST = 3
"""Folders below the package in which weights are looked for."""
_HEADER_BYTES = 64 << 20


class ModelFolder(Struct, frozen=True, kw_only=True):
    """A folder with `config.json` and safetensors, or one with a GGUF file that is still to be converted."""

    path: Path
    gguf: str | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """`config.json`.

        Raises:
            ModelRejected: it is no JSON object.
        """
        try:
            config = json.loads((self.path / "config.json").read_bytes())
        except ValueError as error:
            raise ModelRejected(f"{self.path / 'config.json'} is no JSON: {error}") from error
        if not isinstance(config, dict):
            raise ModelRejected(f"{self.path / 'config.json'} is no JSON object")
        return config

    def parameters(self) -> int:
        """How many numbers the weights are, from the headers of the files."""
        return sum(_elements(file) for file in self.path.glob("*.safetensors"))


def find(local: LocalModel) -> ModelFolder:
    """The folder that an AgentModel means.

    Raises:
        ModelUnavailable: there is no such package or path.
        ModelRejected: it holds no weights that can be loaded.
    """
    root, what = _root(local)
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
        level = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir()]


def _elements(file: Path) -> int:
    """Elements in a safetensors file: eight bytes of length, then that much JSON, tensor by tensor."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if not 0 < size <= _HEADER_BYTES:
            raise ModelRejected(f"{file} is no safetensors file")
        try:
            header = json.loads(stream.read(size))
            shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelRejected(f"{file} is no safetensors file: {error}") from error
    total = 0
    for shape in shapes:
        elements = 1
        for length in shape:
            elements *= int(length)
        total += elements
    return total
