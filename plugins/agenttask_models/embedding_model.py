"""An embedding model on torch: mean of the last layer, length one. Everything here runs on the engine's threads, several at once.

A text longer than the model's window is not cut: its windows are embedded, and their tokens averaged together. Windows are
sorted by length and go through the model in steps of so many rows and so many tokens, padding included: equal lengths waste
nothing, and one long text does not take the memory of a hundred. The threads share the tokens, so that more of them take no more.
"""

import functools
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from agenttask.api.errors import OutOfMemory
from agenttask_models.embedding import Embedded
from agenttask_models.steps import steps_by_length
from agenttask_models.torch_errors import with_typed_memory_errors

STEP_TOKENS = 8192
"""Of all steps that run at once."""
_HALVINGS = 2


class _StepSize(Struct, frozen=True, kw_only=True):
    """What one step may have; `halvings` is how often it was too much."""

    rows: int
    tokens: int
    halvings: int = 0

    def half(self) -> "_StepSize":
        return _StepSize(rows=max(1, self.rows // 2), tokens=max(1, self.tokens // 2), halvings=self.halvings + 1)


class EmbeddingModel:
    """The weights with their tokenizer."""

    def __init__(self, name: str, model: Any, tokenizer: Any, torch: Any, *, max_batch: int, workers: int = 1) -> None:
        self._name = name
        self._model = model
        self._tokenizer = tokenizer
        self._torch = torch
        self._tokenizing = threading.Lock()  # a call sets how the tokenizer cuts, and refuses to while another runs
        self._size = _StepSize(rows=max_batch, tokens=max(1, STEP_TOKENS // workers))
        self._window = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length)

    @classmethod
    def load(
        cls, name: str, folder: Path, *, device: str, dtype: Any, torch: Any, transformers: Any, max_batch: int, workers: int
    ) -> "EmbeddingModel":
        """Read it from a folder of safetensors, for so many threads at once."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = transformers.AutoModel.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        return cls(name, model.to(device).eval(), tokenizer, torch, max_batch=max_batch, workers=workers)

    def enter_thread(self) -> None:
        """What each of the threads calls first: it computes alone, the others are its parallel work."""
        self._torch.set_num_threads(1)

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """One result a text; where the device has no room, in steps of half the size.

        Raises:
            OutOfMemory: the device has no room for a quarter either.
        """
        while True:
            size = self._size
            try:
                return with_typed_memory_errors(self._torch, f"model {self._name!r}", functools.partial(self._embed, texts, size))
            except OutOfMemory:
                if size.halvings == _HALVINGS:
                    raise
            if self._size is size:  # where another thread had no room either, one of them halves
                self._size = size.half()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without those that mark its ends."""
        with self._tokenizing:
            return [len(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []

    def _embed(self, texts: Sequence[str], size: _StepSize) -> list[Embedded]:
        torch = self._torch
        with self._tokenizing:
            encoded = self._tokenizer(list(texts), truncation=True, max_length=self._window, return_overflowing_tokens=True)
        # A tokenizer that marks no ends gives an empty text no tokens: its vector is zero.
        pairs = [pair for pair in zip(encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True) if pair[1]]
        owners: list[int] = [owner for owner, _ in pairs]
        windows: list[list[int]] = [window for _, window in pairs]
        counts = [0] * len(texts)
        for owner, window in pairs:
            counts[owner] += len(window)
        with torch.inference_mode():
            sums = torch.zeros(len(texts), self._model.config.hidden_size, device=self._model.device)
            for step in steps_by_length([len(window) for window in windows], rows=size.rows, tokens=size.tokens):
                found = self._sums([windows[at] for at in step])
                sums.index_add_(0, torch.tensor([owners[at] for at in step], device=sums.device), found)
            vectors = torch.nn.functional.normalize(sums, dim=1)  # the mean has the sum's direction
        return [Embedded(vector=array("f", vector), tokens=tokens) for vector, tokens in zip(vectors.tolist(), counts, strict=True)]

    def _sums(self, windows: Sequence[Sequence[int]]) -> Any:
        """The last layer summed over the tokens of each window."""
        torch = self._torch
        longest, padding = max(map(len, windows)), self._tokenizer.pad_token_id or 0
        ids = torch.tensor([[*window, *[padding] * (longest - len(window))] for window in windows], device=self._model.device)
        mask = torch.tensor([[1] * len(window) + [0] * (longest - len(window)) for window in windows], device=self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return (hidden * mask.unsqueeze(-1)).sum(dim=1)
