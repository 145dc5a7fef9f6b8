"""Models of a tenth of a million random weights, written as real ones are: they say nonsense, the same each time, at once.

A byte-level Llama with a chat template, and a BERT for embeddings; both read any text, as each byte is a token.
"""

from pathlib import Path
from typing import Any

from agenttask_models.libraries import load_torch, load_transformers

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
WINDOW = 256


def save_tiny_llama(folder: Path, *, template: str | None = TEMPLATE, seed: int = 0) -> Path:
    """A causal language model."""
    torch, transformers = load_torch(1), load_transformers()
    torch.manual_seed(seed)
    tokenizer = _bytes(transformers, template)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=WINDOW,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """An embedding model."""
    torch, transformers = load_torch(1), load_transformers()
    torch.manual_seed(seed)
    tokenizer = _bytes(transformers, None)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=WINDOW,
        pad_token_id=tokenizer.pad_token_id,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _bytes(transformers: Any, template: str | None) -> Any:
    """A tokenizer whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", model_max_length=WINDOW, chat_template=template
    )
