"""An embedding model on torch: mean of the last layer, length one. Everything here runs on the engine's thread.

A text longer than the model's window is not cut: its windows are embedded, and their tokens averaged together.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agenttask_models.embedding import Embedded
from agenttask_models.torch_errors import with_typed_memory_errors


class EmbeddingModel:
    """The weights with their tokenizer."""

    def __init__(self, name: str, model: Any, tokenizer: Any, torch: Any) -> None:
        self._name = name
        self._model = model
        self._tokenizer = tokenizer
        self._torch = torch
        self._window = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length)

    @classmethod
    def load(cls, name: str, folder: Path, *, device: str, dtype: Any, torch: Any, transformers: Any) -> "EmbeddingModel":
        """Read it from a folder of safetensors."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = transformers.AutoModel.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        return cls(name, model.to(device).eval(), tokenizer, torch)

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """One result a text.

        Raises:
            OutOfMemory: the device has no room for them.
        """
        return with_typed_memory_errors(self._torch, f"model {self._name!r}", lambda: self._embed(texts))

    def _embed(self, texts: Sequence[str]) -> list[Embedded]:
        torch = self._torch
        encoded = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._window, return_overflowing_tokens=True, return_tensors="pt"
        )
        owners = encoded.pop("overflow_to_sample_mapping")
        encoded = encoded.to(self._model.device)
        with torch.inference_mode():
            hidden = self._model(**encoded).last_hidden_state.float()
            mask = encoded["attention_mask"].unsqueeze(-1).float()
            sums = torch.zeros(len(texts), hidden.shape[-1], device=hidden.device)
            sums.index_add_(0, owners.to(hidden.device), (hidden * mask).sum(dim=1))
            vectors = torch.nn.functional.normalize(sums, dim=1)  # the mean has the sum's direction
            counts = torch.zeros(len(texts), dtype=torch.long)
            counts.index_add_(0, owners, encoded["attention_mask"].sum(dim=1).cpu())
        return [
            Embedded(vector=array("f", vector), tokens=tokens) for vector, tokens in zip(vectors.tolist(), counts.tolist(), strict=True)
        ]
