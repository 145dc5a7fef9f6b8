"""What a checkpoint holds so far, encoded piece by piece and within its bound.

Each ended step and item is encoded once; a document is then their pieces in a row. What does not fit, or would not come
back as it was, is left out: its step runs again where a later one needs it, which costs time and never the task. What
is cheap to do again goes first, of that items (the last ones first), then the largest steps.
"""

import heapq
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct

from agenttask.api.checkpoint import MAX_CHECKPOINT_BYTES, CheckpointRefused, KeptFile, KeptItem, KeptOutput, KeptStep
from agenttask.api.report import shorten
from agenttask.api.steps import Step
from agenttask.plugin.step import StepOutput
from agenttask.runner.kept_output import TooLargeToKeep, kept, unkept

_HEAD_BYTES = 1024
"""The document without steps and items."""
_REASON_CHARACTERS = 200
_CHEAP = {"read": 0, "retrieve": 1, "embed": 2, "fetch": 3}
_DEAR = 4
"""Model calls and commands."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(KeptOutput, strict=True).decode

_Key = tuple[str, int | None]


class Head(Struct, frozen=True, kw_only=True):
    """The document's own fields (api/checkpoint.py)."""

    version: int
    task: str
    spec: str
    runner: str
    attempt: int


class _Sheet(Head, frozen=True, kw_only=True):
    steps: list[Raw]
    items: list[Raw]


class _StepPiece(Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    output: Raw
    files: tuple[KeptFile, ...] | None = None


class _ItemPiece(Struct, frozen=True, kw_only=True, omit_defaults=True):
    step: str
    index: int
    value: str
    output: Raw
    files: tuple[KeptFile, ...] | None = None


class Shelf:
    """The pieces; not for several threads at once.

    Args:
        head: the document's own fields.
        steps: of the spec.
        log: told of what is left out, by the step's name.
        limit: bytes of a document.
    """

    def __init__(self, head: Head, steps: Sequence[Step], *, log: Callable[[str, str], None], limit: int = MAX_CHECKPOINT_BYTES) -> None:
        self._head = head
        self._kinds = {step.name: step.kind for step in steps}
        self._log = log
        self._limit = limit
        self._pieces: dict[_Key, bytes] = {}
        self._items: dict[str, set[int]] = {}
        self._size = _HEAD_BYTES
        self._droppable: list[tuple[int, int, int, str, int]] = []
        self._told: set[str] = set()

    def seed(self, steps: Sequence[KeptStep], items: Sequence[KeptItem]) -> None:
        """What an earlier checkpoint has, and this run takes over."""
        for step in steps:
            self._put((step.name, None), _encode(step), droppable=step.output is not None)
        for item in items:
            self._put((item.step, item.index), _encode(item), droppable=True)

    def step_ended(self, name: str, output: StepOutput, files: tuple[KeptFile, ...] | None) -> None:
        """A step has an output; its items are part of it."""
        self._forget_items(name)
        try:
            piece = _encode(_StepPiece(name=name, output=self._faithful(output), files=files))
        except (TooLargeToKeep, CheckpointRefused) as error:
            self._drop(name, str(error))
        else:
            self._put((name, None), piece, droppable=True)

    def step_skipped(self, name: str, why: str) -> None:
        """A step's `when` was false."""
        self._put((name, None), _encode(KeptStep(name=name, skipped=_valid(why))), droppable=False)

    def item_ended(self, name: str, index: int, value: str, output: StepOutput, files: tuple[KeptFile, ...] | None) -> None:
        """An item has an output; `value` is its digest."""
        try:
            piece = _encode(_ItemPiece(step=name, index=index, value=value, output=self._faithful(output), files=files))
        except (TooLargeToKeep, CheckpointRefused) as error:
            self._left_out(name, index, str(error))
        else:
            self._put((name, index), piece, droppable=True)

    def document(self) -> bytes:
        """The checkpoint as it stands."""
        head = msgspec.structs.asdict(self._head)
        steps = [Raw(piece) for (_, index), piece in self._pieces.items() if index is None]
        items = [Raw(piece) for (_, index), piece in self._pieces.items() if index is not None]
        return _encode(_Sheet(**head, steps=steps, items=items))

    def shrink(self, limit: int) -> bytes:
        """The checkpoint within fewer bytes, as far as there is anything to leave out; the limit stays."""
        self._limit = limit
        self._keep_to_limit()
        return self.document()

    def _faithful(self, output: StepOutput) -> Raw:
        """The output's JSON, from which it comes back as it is: no NaN made null, no key made a string."""
        if (size := _characters(output)) > self._limit:
            raise TooLargeToKeep(f"its output has {size} characters, a checkpoint {self._limit} bytes")
        whole = kept(output)
        try:
            raw = _encode(whole)
            back = _decode(raw)
            faithful = back == whole
        except (TypeError, ValueError, RecursionError, UnicodeError, msgspec.MsgspecError) as error:
            raise TooLargeToKeep(f"its output cannot be told as JSON: {type(error).__name__}: {error}") from error
        unkept(back)
        if not faithful:
            raise TooLargeToKeep("its output holds something that JSON cannot carry")
        return Raw(raw)

    def _put(self, key: _Key, piece: bytes, *, droppable: bool) -> None:
        self._remove(key)
        name, index = key
        self._pieces[key] = piece
        self._size += len(piece) + 1
        if index is not None:
            self._items.setdefault(name, set()).add(index)
        if droppable:
            rank = _CHEAP.get(self._kinds.get(name, ""), _DEAR)
            order = (1, -len(piece)) if index is None else (0, -index)
            heapq.heappush(self._droppable, (rank, *order, name, len(piece)))
        self._keep_to_limit()

    def _keep_to_limit(self) -> None:
        while self._size > self._limit and self._droppable:
            self._drop_first()

    def _drop_first(self) -> None:
        _, whole, place, name, size = heapq.heappop(self._droppable)
        key: _Key = (name, None if whole else -place)
        if len(self._pieces.get(key, b"")) != size:
            return  # replaced or gone since
        why = f"the checkpoint holds {self._limit} bytes, and its part has {size}"
        if key[1] is None:
            self._drop(name, why)
        else:
            self._remove(key)
            self._left_out(name, key[1], why)

    def _left_out(self, name: str, index: int, why: str) -> None:
        """Tell of the first item that is left out; a long list would fill the log."""
        if name not in self._told:
            self._told.add(name)
            self._log(f"step {name}", f"item {index + 1} is not in the checkpoint, as others may not be: {why}")

    def _drop(self, name: str, why: str) -> None:
        self._log(f"step {name}", f"its output is not in the checkpoint, an attempt after this one runs it again where it is needed: {why}")
        self._put((name, None), _encode(KeptStep(name=name, dropped=_valid(why))), droppable=False)

    def _forget_items(self, name: str) -> None:
        for index in self._items.pop(name, ()):
            self._size -= len(self._pieces.pop((name, index))) + 1

    def _remove(self, key: _Key) -> None:
        piece = self._pieces.pop(key, None)
        if piece is not None:
            self._size -= len(piece) + 1
            if key[1] is not None:
                self._items[key[0]].discard(key[1])


def _characters(output: StepOutput) -> int:
    """A lower bound of what it takes, before anything is encoded."""
    own = len(output.text) + sum(len(name) + len(content) for name, content in output.files.items())
    passages = () if output.collection is None else output.collection.passages
    return own + sum(map(_characters, output.results)) + sum(len(passage.text) for passage in passages)


def _valid(text: str) -> str:
    return shorten(text.encode("utf-8", "replace").decode(), _REASON_CHARACTERS)
