"""Sampling each request its own way in one batch: temperature and seed travel with the request, the batch takes the largest.

transformers samples a whole batch with one generator and one temperature. Here the choice is by the Gumbel trick: the largest
of logits / temperature + noise is a draw from softmax(logits / temperature). The noise of a token is a hash of seed, position
and word, so it depends neither on the batch nor on what ran before, and needs no state; without a seed there is none: greedy.
"""

import hashlib
from typing import Any

_MASK = 0xFFFFFFFF
GREEDY = 0


def seed_of(seed: int) -> int:
    """Any number as 31 bits above 0, as the batch's tables have room for."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % 0x7FFFFFFE + 1


def token_seed(seed: int, position: int) -> int:
    """The seed of one token of an answer, 31 bits above 0."""
    mixed = (seed ^ (position * 0x9E3779B1)) & _MASK
    mixed = ((mixed ^ (mixed >> 16)) * 0x7FEB352D) & _MASK
    mixed = ((mixed ^ (mixed >> 15)) * 0x846CA68B) & _MASK
    return (mixed ^ (mixed >> 16)) % 0x7FFFFFFE + 1


def gumbel(torch: Any, seeds: Any, words: int) -> Any:
    """Noise for each of `seeds` and each word of the vocabulary."""
    mixed = seeds.to(torch.int64).unsqueeze(-1) * 0x9E3779B1 + torch.arange(words, device=seeds.device, dtype=torch.int64)
    mixed = mixed & _MASK
    mixed = ((mixed ^ (mixed >> 16)) * 0x7FEB352D) & _MASK
    mixed = ((mixed ^ (mixed >> 15)) * 0x846CA68B) & _MASK
    mixed = mixed ^ (mixed >> 16)
    uniform = ((mixed >> 9).to(torch.float32) + 0.5) * 2.0**-23  # 23 bits: neither 0 nor 1, whose logarithms are no numbers
    return -torch.log(-torch.log(uniform))


def request_sampler(torch: Any, continuous: Any, transformers: Any) -> Any:
    """The processors of a batch that honour `temperature` and `seed` of each request.

    Args:
        torch: the module.
        continuous: `transformers.generation.continuous_batching.cb_logits_processors`.
        transformers: the module.
    """
    base: Any = continuous.ContinuousBatchingLogitsProcessor

    class SeededNoise(base):  # type: ignore[misc]  # the base is known only when transformers is
        """Adds noise to the rows of requests that have a seed."""

        supported_kwargs = {"seed": int}
        ignored_kwargs = ()

        def fill_defaults(self, int32_tensor: Any) -> None:
            int32_tensor.fill_(GREEDY)

        def prepare_tensor_args(self, requests_with_new_token: Any) -> Any:
            seeds = []
            for request in requests_with_new_token:
                seed = request.state.logit_processor_kwargs.get("seed", GREEDY)
                seeds.append(token_seed(seed, request.state.position_offset) if seed else GREEDY)
            return torch.tensor(seeds, dtype=torch.int32)

        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            seeds = tensor_arg[: scores.size(0)]
            if scores.device.type != "cpu":  # no look at the numbers: the step may be a captured graph
                noise = gumbel(torch, seeds, scores.size(1))
                return torch.where((seeds != GREEDY).unsqueeze(-1), scores + noise, scores)
            rows = (seeds != GREEDY).nonzero().flatten()
            if rows.numel():
                scores[rows] += gumbel(torch, seeds[rows], scores.size(1))
            return scores

    temperature = continuous.ContinuousBatchingTemperatureLogitsWarper(transformers.TemperatureLogitsWarper(1.0))
    processors = transformers.LogitsProcessorList([temperature, SeededNoise()])
    made = continuous.ContinuousBatchingLogitsProcessorList(processors)
    made.tensors_required = 2  # the library counts those only that it made itself
    return made
