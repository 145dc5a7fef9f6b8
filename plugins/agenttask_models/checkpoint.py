"""What safetensors files say of themselves before anything is loaded: how many numbers, of which type, and whether all are there.

A cut file is found here by its length; torch would find it with a bus error, in the middle of a mapped page.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from agenttask.api.errors import ModelRejected

_HEADER_BYTES = 64 << 20
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_COUNTERS = {"I64", "I32", "I16", "U8", "BOOL"}
"""Types of buffers (positions, masks) that plain models have beside their weights."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The weights of one folder."""

    parameters: int
    dtypes: tuple[str, ...]
    """Types of the tensors, the most used first."""
    digest: str
    """Of the headers, names, sizes and times: another file is another digest, without reading gigabytes."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """From the headers of all `*.safetensors` of a folder.

    Raises:
        ModelRejected: a file cannot be read, is cut, or has numbers of a type that no plain model has.
    """
    digest = hashlib.sha256()
    counts: dict[str, int] = {}
    config = folder / "config.json"
    if config.is_file():
        digest.update(config.read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        header, size = _header(file)
        digest.update(f"{file.name} {size} {file.stat().st_mtime_ns}".encode())
        for dtype, elements in _tensors(file, header, size):
            counts[dtype] = counts.get(dtype, 0) + elements
        digest.update(header)
    return Checkpoint(
        parameters=sum(counts.values()), dtypes=tuple(sorted(counts, key=lambda dtype: -counts[dtype])), digest=digest.hexdigest()[:16]
    )


def check_dtypes(checkpoint: Checkpoint, what: str) -> None:
    """Refuse weights that are no plain numbers.

    Raises:
        ModelRejected: the message names the type.
    """
    strange = [dtype for dtype in checkpoint.dtypes if dtype not in _FLOATS and dtype not in _COUNTERS]
    floats = [dtype for dtype in checkpoint.dtypes if dtype in _FLOATS]
    if strange or not floats:
        raise ModelRejected(
            f"{what} has weights of type {', '.join(strange or checkpoint.dtypes) or 'none'}; loaded are {', '.join(_FLOATS)}: "
            "use a checkpoint that is not quantised"
        )


def _header(file: Path) -> tuple[bytes, int]:
    """The JSON of a file, and the file's size: eight bytes of length, then that much JSON, then the numbers."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _HEADER_BYTES:
                raise ModelRejected(f"{file} is no safetensors file")
            return stream.read(length), file.stat().st_size
    except OSError as error:
        raise ModelRejected(f"{file} cannot be read: {error.strerror}; check the file's mode and owner") from error


def _tensors(file: Path, raw: bytes, size: int) -> Iterable[tuple[str, int]]:
    """Type and number of elements of each tensor."""
    end = 0
    try:
        header = json.loads(raw)
        for name, tensor in header.items():
            if name != "__metadata__":
                elements = 1
                for length in tensor["shape"]:
                    elements *= int(length)
                end = max(end, int(tensor["data_offsets"][1]))
                yield str(tensor["dtype"]), elements
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelRejected(f"{file} is no safetensors file: {error}") from error
    whole = 8 + len(raw) + end
    if size < whole:
        raise ModelRejected(f"{file} is cut: it has {size} bytes, its header promises {whole}; copy or download it again")
