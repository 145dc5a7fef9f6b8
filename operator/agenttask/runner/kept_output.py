"""Outputs of steps as a checkpoint keeps them, and back.

Vectors of a collection are packed as 32-bit floats, which is what the models compute with.
"""

import struct

from agenttask.api.checkpoint import MAX_PACKED_BYTES, CheckpointRefused, KeptCollection, KeptError, KeptOutput, KeptPassage
from agenttask.plugin.step import Collection, Passage, StepError, StepOutput

_FLOAT_BYTES = 4


class TooLargeToKeep(Exception):
    """An output that no checkpoint takes; its step runs again where it is needed."""


def kept(output: StepOutput) -> KeptOutput:
    """As the checkpoint has it.

    Raises:
        TooLargeToKeep: it has a collection of more vectors than are kept.
    """
    return KeptOutput(
        text=output.text,
        json=output.json,
        files=dict(output.files),
        exit_code=output.exit_code,
        results=tuple(kept(result) for result in output.results),
        error=None if output.error is None else KeptError(reason=output.error.reason, message=output.error.message),
        collection=None if output.collection is None else _packed(output.collection),
    )


def unkept(output: KeptOutput) -> StepOutput:
    """As steps see it.

    Raises:
        CheckpointRefused: a collection whose vectors do not fit its passages.
    """
    return StepOutput(
        text=output.text,
        json=output.json,
        files=output.files,
        exit_code=output.exit_code,
        results=tuple(unkept(result) for result in output.results),
        error=None if output.error is None else StepError(reason=output.error.reason, message=output.error.message),
        collection=None if output.collection is None else _unpacked(output.collection),
    )


def _packed(collection: Collection) -> KeptCollection:
    dimensions = len(collection.vectors[0]) if collection.vectors else 0
    size = sum(len(vector) for vector in collection.vectors) * _FLOAT_BYTES
    if size > MAX_PACKED_BYTES:
        raise TooLargeToKeep(f"its {len(collection.vectors)} vectors have {size} bytes, at most {MAX_PACKED_BYTES} are kept")
    numbers = [number for vector in collection.vectors for number in vector]
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except (OverflowError, struct.error) as error:
        raise TooLargeToKeep(f"its vectors are no 32-bit floats: {error}") from error
    return KeptCollection(
        model=collection.model,
        dimensions=dimensions,
        passages=tuple(KeptPassage(text=passage.text, source=passage.source) for passage in collection.passages),
        vectors=packed,
    )


def _unpacked(collection: KeptCollection) -> Collection:
    width = collection.dimensions
    if len(collection.vectors) != len(collection.passages) * width * _FLOAT_BYTES or (collection.passages and not width):
        raise CheckpointRefused("the checkpoint is malformed: a collection has not one vector a passage")
    numbers = struct.unpack(f"<{len(collection.vectors) // _FLOAT_BYTES}f", collection.vectors)
    return Collection(
        model=collection.model,
        passages=tuple(Passage(text=passage.text, source=passage.source) for passage in collection.passages),
        vectors=tuple(numbers[start : start + width] for start in range(0, len(numbers), width or 1)),
    )
