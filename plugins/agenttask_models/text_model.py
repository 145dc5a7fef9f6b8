"""A causal language model on torch: one conversation at a time, greedy. Everything here runs on the engine's thread."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agenttask.api.errors import ModelRejected
from agenttask.plugin.llm import Message, Usage
from agenttask_models.pieces import TextPieces
from agenttask_models.text import Ended
from agenttask_models.torch_errors import with_typed_memory_errors


class TextModel:
    """The weights with their tokenizer."""

    def __init__(self, name: str, model: Any, tokenizer: Any, torch: Any, transformers: Any) -> None:
        self._name = name
        self._model = model
        self._tokenizer = tokenizer
        self._torch = torch
        self._transformers = transformers
        self._window: int = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        stops = model.generation_config.eos_token_id
        stops = tokenizer.eos_token_id if stops is None else stops
        self._stops: list[int] = stops if isinstance(stops, list) else [] if stops is None else [stops]

    @classmethod
    def load(cls, name: str, folder: Path, *, device: str, dtype: Any, torch: Any, transformers: Any) -> "TextModel":
        """Read it from a folder of safetensors."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not tokenizer.chat_template:
            raise ModelRejected(f"model {name!r} has no chat template: it completes text and answers no messages; use an instruct model")
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        return cls(name, model.to(device).eval(), tokenizer, torch, transformers)

    def generate(self, messages: Sequence[Message], max_tokens: int, emit: Callable[[str], None], cancelled: Callable[[], bool]) -> Ended:
        """Answer; `emit` gets the pieces, `cancelled` is asked before each token.

        Raises:
            ModelRejected: the prompt does not fit into the model's window.
            OutOfMemory: the device has no room for it.
        """
        prompt = self._prompt(messages)
        room = self._window - len(prompt)
        if room < 1:
            raise ModelRejected(f"the prompt has {len(prompt)} tokens, model {self._name!r} takes {self._window - 1}; shorten it")
        stream = _TokenStream(TextPieces(lambda tokens: str(self._tokenizer.decode(tokens, skip_special_tokens=True))), emit)
        with_typed_memory_errors(self._torch, f"model {self._name!r}", lambda: self._run(prompt, min(max_tokens, room), stream, cancelled))
        if rest := stream.pieces.end():
            emit(rest)
        stopped = stream.last in self._stops or cancelled()
        return Ended(
            usage=Usage(calls=1, input_tokens=len(prompt), output_tokens=len(stream.pieces)),
            finish_reason="stop" if stopped else "length",
        )

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            encoded = self._tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True, return_dict=True)
        except Exception as error:
            raise ModelRejected(f"the chat template of model {self._name!r} refuses the messages: {error}") from error
        return list(encoded["input_ids"])

    def _run(self, prompt: list[int], max_tokens: int, stream: "_TokenStream", cancelled: Callable[[], bool]) -> None:
        torch = self._torch
        ids = torch.tensor([prompt], device=self._model.device)
        config = self._transformers.GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self._stops or None,
            pad_token_id=self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else (self._stops or [0])[0],
        )
        with torch.inference_mode():
            self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                streamer=stream,
                stopping_criteria=self._transformers.StoppingCriteriaList(
                    [lambda tokens, _scores: torch.full((tokens.shape[0],), cancelled(), dtype=torch.bool, device=tokens.device)]
                ),
            )


class _TokenStream:
    """What `generate` gives its tokens to: the prompt first, then one token at a time."""

    def __init__(self, pieces: TextPieces, emit: Callable[[str], None]) -> None:
        self.pieces = pieces
        self.last: int | None = None
        self._emit = emit
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Tokens, as a tensor."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.last = token
            if piece := self.pieces.add(token):
                self._emit(piece)

    def end(self) -> None:
        """The answer is whole."""
