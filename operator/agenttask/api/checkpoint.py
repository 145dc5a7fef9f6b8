"""The checkpoint: what an attempt has finished, for the next attempt to go on from.

A versioned document in JSON, at most `MAX_CHECKPOINT_BYTES`. Whoever reads it treats it as hostile: decoding is strict
and bounded, a checkpoint of another task or another spec is refused, and so is one of a newer version (after a
rollback), each with its reason. Older versions are read through the table of decoders below.
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from agenttask.api.steps import StepName
from agenttask.api.task import AgentTaskSpec

CHECKPOINT_VERSION: Final = 1
MAX_CHECKPOINT_BYTES: Final = 900 * 1024
"""What an object of the API server holds besides its own fields."""
MAX_KEPT_FILE_BYTES: Final = 64 * 1024
MAX_KEPT_FILES_BYTES: Final = 256 * 1024
"""Of one step, all its items together."""
MAX_PACKED_BYTES: Final = 256 * 1024
"""Vectors of one collection; a larger one is embedded again."""

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
_Index = Annotated[int, Meta(ge=0, lt=1_000_000)]


class Kept(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base of the parts: what this version does not know, it does not guess at."""


class KeptFile(Kept, frozen=True, kw_only=True):
    """A file of the workspace, by its path below it; the content is base64 in the document."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    content: Annotated[bytes, Meta(max_length=MAX_KEPT_FILE_BYTES)]
    executable: bool = False


class KeptPassage(Kept, frozen=True, kw_only=True):
    """A passage of a collection."""

    text: str
    source: str


class KeptCollection(Kept, frozen=True, kw_only=True):
    """An embedded collection: `vectors` are the passages' vectors one after another, little-endian 32-bit floats."""

    model: str
    dimensions: Annotated[int, Meta(ge=0, le=1_000_000)]
    passages: tuple[KeptPassage, ...]
    vectors: Annotated[bytes, Meta(max_length=MAX_PACKED_BYTES)]


class KeptError(Kept, frozen=True, kw_only=True):
    """Why a step or an item failed where the task went on."""

    reason: Annotated[str, Meta(max_length=256)]
    message: str


class KeptOutput(Kept, frozen=True, kw_only=True):
    """What a step, or an item of it, handed on."""

    text: str = ""
    json: Any = None
    files: dict[str, str] = {}
    exit_code: int | None = None
    results: tuple["KeptOutput", ...] = ()
    error: KeptError | None = None
    collection: KeptCollection | None = None


class KeptStep(Kept, frozen=True, kw_only=True):
    """A step that has ended: with an output, skipped by its `when`, or with an output that is not kept."""

    name: StepName
    output: KeptOutput | None = None
    skipped: str | None = None
    """Why the step did not run."""
    dropped: str | None = None
    """Why the output is not here; the step runs again where a later one needs it."""
    files: tuple[KeptFile, ...] | None = None
    """What its `keepFiles` found; None where it has none."""


class KeptItem(Kept, frozen=True, kw_only=True):
    """One finished item of a `forEach` step that has not ended itself; `value` is the digest of the item."""

    step: StepName
    index: _Index
    value: Digest
    output: KeptOutput
    files: tuple[KeptFile, ...] | None = None


class Checkpoint(Kept, frozen=True, kw_only=True, omit_defaults=False):
    """All that one attempt leaves to the next."""

    version: int = CHECKPOINT_VERSION
    task: Annotated[str, Meta(max_length=128)]
    """The task's uid."""
    spec: Digest
    """Of the parts of the spec that decide what the steps do."""
    runner: Annotated[str, Meta(max_length=128)]
    """The version of the runner that wrote it, for messages."""
    attempt: Annotated[int, Meta(ge=1)] = 1
    steps: Annotated[tuple[KeptStep, ...], Meta(max_length=64)] = ()
    items: Annotated[tuple[KeptItem, ...], Meta(max_length=100_000)] = ()


class CheckpointRefused(ValueError):
    """A checkpoint that must not be gone on from; the message says why."""


class _Envelope(Struct):
    version: int
    runner: str = "unknown"


_deterministic = msgspec.json.Encoder(order="deterministic").encode
_encode = msgspec.json.Encoder().encode
_decode_1 = msgspec.json.Decoder(Checkpoint, strict=True).decode
_DECODERS: Final[Mapping[int, Callable[[bytes], Checkpoint]]] = MappingProxyType({1: _decode_1})
"""By the version that is read; each gives today's type."""


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON, its mappings in the order of their keys."""
    return hashlib.sha256(_deterministic(value)).hexdigest()


def spec_digest(spec: AgentTaskSpec) -> str:
    """The digest of what decides what the steps do: steps, params, inputs and output."""
    return digest({"steps": spec.steps, "params": spec.params, "inputs": spec.inputs, "output": spec.output})


def encode(checkpoint: Checkpoint) -> bytes:
    """The document; its size is the caller's care."""
    return _encode(checkpoint)


def decode(raw: bytes, *, decoders: Mapping[int, Callable[[bytes], Checkpoint]] = _DECODERS) -> Checkpoint:
    """The checkpoint in a document.

    Raises:
        CheckpointRefused: too large, of a version that is not read here, or no checkpoint at all.
    """
    if len(raw) > MAX_CHECKPOINT_BYTES:
        raise CheckpointRefused(f"the checkpoint has {len(raw)} bytes, at most {MAX_CHECKPOINT_BYTES} are read")
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        if envelope.version not in decoders:
            raise CheckpointRefused(_of_another_version(envelope, newest=max(decoders)))
        checkpoint = decoders[envelope.version](raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointRefused(f"the checkpoint is malformed: {error}") from error
    _consistent(checkpoint)
    return checkpoint


def belongs(checkpoint: Checkpoint, *, task: str, spec: str) -> None:
    """Refuse what another task, or the same one with another spec, has left.

    Raises:
        CheckpointRefused: it is not this task's.
    """
    if checkpoint.task != task:
        raise CheckpointRefused(f"the checkpoint is of task {checkpoint.task!r}, this one is {task!r}")
    if checkpoint.spec != spec:
        raise CheckpointRefused(
            f"the checkpoint is of another spec ({checkpoint.spec[:12]}, this one is {spec[:12]}): "
            "steps, params, inputs or output have changed"
        )


def _of_another_version(envelope: _Envelope, *, newest: int) -> str:
    written = f"the checkpoint has version {envelope.version} and was written by runner {envelope.runner!r}"
    if envelope.version > newest:
        return f"{written}; this runner reads up to version {newest}: use that runner or a newer one to go on from it"
    return f"{written}; this runner does not read that any more"


def _consistent(checkpoint: Checkpoint) -> None:
    """What the types cannot say."""
    names = [step.name for step in checkpoint.steps]
    if len(set(names)) != len(names):
        raise CheckpointRefused("the checkpoint is malformed: a step stands twice")
    for step in checkpoint.steps:
        if sum(part is not None for part in (step.output, step.skipped, step.dropped)) != 1:
            raise CheckpointRefused(f"the checkpoint is malformed: step {step.name!r} has not exactly one of output, skipped and dropped")
    outputs = [*(step.output for step in checkpoint.steps), *(item.output for item in checkpoint.items)]
    if any(result.results for output in outputs if output is not None for result in output.results):
        raise CheckpointRefused("the checkpoint is malformed: an item has items of its own")
    places = [(item.step, item.index) for item in checkpoint.items]
    if len(set(places)) != len(places) or not {step for step, _ in places}.isdisjoint(names):
        raise CheckpointRefused("the checkpoint is malformed: an item stands twice, or beside its ended step")
