"""A causal language model on torch with its tokenizer: messages to tokens, tokens to text, and the cost of its cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agenttask.api.errors import ModelRejected
from agenttask.plugin.llm import Message
from agenttask_models.memory import Attention
from agenttask_models.pieces import TextPieces


class TextModel:
    """The weights with their tokenizer."""

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        self._name = name
        self.weights = model
        self._tokenizer = tokenizer
        config = model.config.get_text_config()
        self.window: int = getattr(config, "max_position_embeddings", None) or 1 << 30
        stops = model.generation_config.eos_token_id
        stops = tokenizer.eos_token_id if stops is None else stops
        self.stops: tuple[int, ...] = tuple(stops) if isinstance(stops, list) else () if stops is None else (stops,)
        """Tokens that end an answer."""

    @classmethod
    def load(cls, name: str, folder: Path, *, device: str, dtype: Any, transformers: Any) -> "TextModel":
        """Read it from a folder of safetensors."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not tokenizer.chat_template:
            raise ModelRejected(f"model {name!r} has no chat template: it completes text and answers no messages; use an instruct model")
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        return cls(name, model.to(device).eval(), tokenizer)

    @property
    def attention(self) -> Attention:
        """For the plan of the cache.

        Raises:
            ModelRejected: the configuration has no attention in it.
        """
        try:
            return Attention.of(self.weights.config.get_text_config())
        except AttributeError as error:
            raise ModelRejected(f"model {self._name!r} cannot be batched: {error}; use a model of attention layers") from error

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the answer begins.

        Raises:
            ModelRejected: the model's template refuses the messages.
        """
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            encoded = self._tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True, return_dict=True)
        except Exception as error:
            raise ModelRejected(f"the chat template of model {self._name!r} refuses the messages: {error}") from error
        return list(encoded["input_ids"])

    def pieces(self) -> TextPieces:
        """For the tokens of one answer."""
        return TextPieces(lambda tokens: str(self._tokenizer.decode(tokens, skip_special_tokens=True)))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, by itself."""
        return [len(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
