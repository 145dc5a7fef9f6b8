"""Sampling by noise that is a hash: on torch, against the distribution it stands for. Deterministic: the seeds are fixed."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask_models.sampling import gumbel, request_sampler, seed_of, token_seed

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@settings(deadline=None)
@given(st.integers(), st.integers(0, 2**31))
def test_seeds_fit_the_tables_of_a_batch_and_are_never_none(seed, position):
    assert 0 < seed_of(seed) < 2**31
    assert 0 < token_seed(seed_of(seed), position) < 2**31


def test_positions_and_seeds_differ():
    assert len({token_seed(seed_of(seed), position) for seed in range(100) for position in range(100)}) > 9_990


def test_what_is_drawn_is_distributed_as_softmax_says(torch):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    seeds = torch.tensor([token_seed(seed_of(7), position) for position in range(40_000)], dtype=torch.int32)
    drawn = (logits / 0.8 + gumbel(torch, seeds, 4)).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=4) / len(seeds)
    assert torch.allclose(shares, torch.softmax(logits / 0.8, dim=0), atol=0.01)


def test_noise_is_always_a_number(torch):
    noise = gumbel(torch, torch.arange(1, 300, dtype=torch.int32), 1000)
    assert bool(torch.isfinite(noise).all())
    assert abs(float(noise.mean()) - 0.5772) < 0.01  # Euler's constant, the mean of the distribution


def test_rows_without_a_seed_are_left_as_they_are(torch):
    import transformers

    continuous = transformers.generation.continuous_batching.cb_logits_processors
    sampler = request_sampler(torch, continuous, transformers)

    def request(position, **sampling):
        return SimpleNamespace(has_new_token=True, state=SimpleNamespace(logit_processor_kwargs=sampling, position_offset=position))

    batch = [request(5), request(5, temperature=0.5, seed=9), request(5, temperature=0.5, seed=9), request(6, temperature=0.5, seed=9)]
    arguments = torch.zeros((sampler.tensors_required, 8), dtype=torch.int32)
    sampler.fill_defaults(arguments)
    sampler.prepare_tensor_args(batch, arguments)
    scores = torch.randn(1, 50, generator=torch.Generator().manual_seed(1)).repeat(4, 1)
    found = sampler(None, scores, arguments)
    assert torch.equal(found[0], scores[0])
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[1], found[3])
    assert torch.allclose(found[1] - scores[1] / 0.5, gumbel(torch, arguments[1, 1:2], 50)[0], atol=1e-5)
