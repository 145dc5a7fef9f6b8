"""How large the attention cache is: from the container's or the device's own memory, minus the weights, never from the node's.

transformers would take 60 % of the node's memory, in a pod a certain kill by the kernel. A token costs its keys and values in
every layer, and beside them what one step reads of it: copies for every attention head, and its column of the mask.
"""

from typing import Any

from msgspec import Struct

from agenttask.api.errors import OutOfMemory

FEWEST_BLOCKS = 8
_SHARE = 2
"""Half of what the weights leave is the cache's; the rest is for steps, other models and the runner."""
_WITHOUT_LIMIT = 1 << 30
"""The cache where no limit is set and nothing is said: a laptop."""


class CachePlan(Struct, frozen=True, kw_only=True):
    """A cache of `blocks` of `page` tokens."""

    blocks: int
    page: int
    token_bytes: int

    @property
    def tokens(self) -> int:
        """How many fit."""
        return self.blocks * self.page

    @property
    def memory_bytes(self) -> int:
        """What it takes when it is full."""
        return self.tokens * self.token_bytes


class Attention(Struct, frozen=True, kw_only=True):
    """What of a model's configuration the cost of a token depends on."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int

    @classmethod
    def of(cls, config: Any) -> "Attention":
        """From a transformers configuration."""
        heads = config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        )

    def token_bytes(self, itemsize: int, step_tokens: int) -> int:
        """Bytes of one token: in the cache, read in a step, and in the mask of a step."""
        stored = 2 * self.layers * self.kv_heads
        read = 2 * self.heads + self.kv_heads
        return itemsize * (self.head_size * (stored + read) + step_tokens)


def plan_cache(
    what: str, *, token_bytes: int, page: int, wanted_tokens: int, available: int | None, asked: int | None, weights: int
) -> CachePlan:
    """The cache of one model.

    Args:
        what: for messages.
        token_bytes: what a token costs.
        page: tokens in a block.
        wanted_tokens: more is of no use: all slots full of the longest text.
        available: bytes for weights and cache together; None: there is no limit.
        asked: `local.memory`; it wins over the share.
        weights: bytes that they take.

    Raises:
        OutOfMemory: it does not fit; said before the kernel does, whose kill takes the whole container and its reasons.
    """
    block = page * token_bytes
    left = None if available is None else available - weights
    room = asked if asked is not None else _WITHOUT_LIMIT if left is None else left // _SHARE
    if asked is not None and left is not None and asked > left:
        raise OutOfMemory(
            f"{what}: local.memory asks for {_mib(asked)} of attention cache, and beside {_mib(weights)} of weights {_mib(left)} are left; "
            "lower it, or raise `pod.resources.limits.memory`"
        )
    if room < FEWEST_BLOCKS * block:
        raise OutOfMemory(
            f"{what}: {_mib(room)} for the attention cache are too little, {FEWEST_BLOCKS * page} tokens take "
            f"{_mib(FEWEST_BLOCKS * block)}; raise {'local.memory' if asked is not None else '`pod.resources.limits.memory`'}"
        )
    wanted = -(-wanted_tokens // page) + 1
    return CachePlan(blocks=max(FEWEST_BLOCKS, min(wanted, room // block)), page=page, token_bytes=token_bytes)


def check_weights(what: str, needed: int, limit: int | None) -> None:
    """Whether the weights alone fit.

    Raises:
        OutOfMemory: they do not.
    """
    if limit is not None and needed > limit:
        raise OutOfMemory(
            f"the weights of {what} take {_mib(needed)}, the container may use {_mib(limit)}; "
            "raise `pod.resources.limits.memory`, or set local.dtype to BFloat16"
        )


def _mib(amount: int) -> str:
    return f"{amount >> 20} MiB"
