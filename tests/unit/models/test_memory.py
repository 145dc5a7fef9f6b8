"""The attention cache's size: from the container's memory and the model's shape, never from the machine's."""

import types

import pytest

from agenttask.api.errors import OutOfMemory
from agenttask_models.memory import FEWEST_BLOCKS, Attention, check_weights, plan_cache

MIB = 1 << 20


def plan(*, available=None, asked=None, weights=0, wanted=10**6, token=1024, page=32):
    return plan_cache("model 'm'", token_bytes=token, page=page, wanted_tokens=wanted, available=available, asked=asked, weights=weights)


def test_half_of_what_the_weights_leave_is_the_caches():
    assert plan(available=300 * MIB, weights=100 * MIB).memory_bytes == 100 * MIB


def test_what_is_asked_for_wins():
    assert plan(available=300 * MIB, asked=250 * MIB, weights=10 * MIB).memory_bytes == 250 * MIB


def test_more_than_all_places_full_is_of_no_use():
    found = plan(available=300 * MIB, wanted=1000)
    assert (found.blocks, found.tokens) == (33, 1056)


def test_without_a_limit_the_cache_has_one_of_its_own():
    assert plan(wanted=10**9).memory_bytes == 1 << 30


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"available": 300 * MIB, "asked": 250 * MIB, "weights": 100 * MIB}, r"asks for 250 MiB .*100 MiB of weights 200 MiB are left"),
        ({"available": 100 * MIB, "weights": 100 * MIB - 1}, r"too little, 256 tokens take .*raise `pod\.resources\.limits\.memory`"),
        ({"asked": 1024}, r"too little, .*raise local\.memory"),
        ({"available": 100 * MIB, "weights": 200 * MIB}, "too little"),
    ],
    ids=["asked for too much", "nothing left", "asked for too little", "less than nothing"],
)
def test_a_cache_that_does_not_fit_is_told_before_the_kernel_kills(more, problem):
    with pytest.raises(OutOfMemory, match=problem):
        plan(**more)


def test_the_smallest_cache_is_a_few_blocks():
    assert plan(asked=FEWEST_BLOCKS * 32 * 1024).blocks == FEWEST_BLOCKS


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}, (2, 4, 4, 16)),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "num_key_value_heads": 1, "head_dim": 8}, (2, 4, 1, 8)),
    ],
    ids=["plain", "grouped"],
)
def test_the_shape_is_read_from_the_configuration(config, shape):
    found = Attention.of(types.SimpleNamespace(**config))
    assert (found.layers, found.heads, found.kv_heads, found.head_size) == shape


def test_a_token_costs_its_keys_and_values_and_what_a_step_reads():
    shape = Attention(layers=30, heads=9, kv_heads=3, head_size=64)
    assert shape.token_bytes(4, 256) == 4 * (2 * 30 * 3 * 64 + (2 * 9 + 3) * 64 + 256)


def test_weights_that_do_not_fit_are_told():
    check_weights("model 'm'", 5, None)
    check_weights("model 'm'", 5, 5)
    with pytest.raises(OutOfMemory, match=r"take 2 MiB, the container may use 1 MiB; .*BFloat16"):
        check_weights("model 'm'", 2 * MIB, MIB)
