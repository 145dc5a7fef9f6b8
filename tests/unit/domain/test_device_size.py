"""What `device.gpu` makes of a class: how many units, and which classes can never serve it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.task import Gpu
from agenttask.domain.device import DeviceClass
from agenttask.domain.device_size import gpus, sized, too_small, units

NVIDIA = "nvidia.com/gpu"
MANY = DeviceClass(name="gpu", kind="cuda", resources={NVIDIA: 1, "rdma/hca": 1}, max_count=8, cost="1.5")
PAIR = DeviceClass(name="pair", kind="cuda", resources={NVIDIA: 2}, max_count=4)
MIG = DeviceClass(name="mig", kind="cuda", resources={"nvidia.com/mig-1g.5gb": 1}, gpu_memory="5Gi")
CLAIM = DeviceClass(name="claim", kind="cuda", resource_claim_template="gpu", max_count=2)


def test_more_gpus_multiply_resources_and_cost() -> None:
    found = sized(MANY, Gpu(count=4))

    assert (found.resources, found.cost) == ({NVIDIA: 4, "rdma/hca": 4}, "6.0")


@pytest.mark.parametrize(("count", "expected"), [(1, 2), (2, 2), (3, 4), (4, 4)])
def test_a_class_that_gives_two_at_once_rounds_up(count: int, expected: int) -> None:
    assert sized(PAIR, Gpu(count=count)).resources == {NVIDIA: expected}


def test_a_task_without_a_wish_takes_one_unit() -> None:
    assert sized(MANY, None) is MANY
    assert units(CLAIM, None) == 1
    assert units(CLAIM, Gpu(count=2)) == 2


@pytest.mark.parametrize(
    ("one", "gpu", "why"),
    [
        (MIG, Gpu(count=2), "gives a task at most 1 GPU, device.gpu.count is 2"),
        (PAIR, Gpu(count=5), "gives a task at most 4 GPUs, device.gpu.count is 5"),
        (CLAIM, Gpu(count=3), "gives a task at most 2 GPUs, device.gpu.count is 3"),
        (MIG, Gpu(memory="24Gi"), "has 5Gi a GPU, device.gpu.memory is 24Gi"),
        (MIG, Gpu(memory="5G"), None),
        (MANY, Gpu(memory="24Gi"), None),
        (DeviceClass(name="cpu"), Gpu(count=8, memory="80Gi"), None),
        (DeviceClass(name="api", kind="remote"), Gpu(count=8), None),
    ],
    ids=["count", "pairs", "claims", "memory", "memory in other units", "memory not said", "a processor", "an endpoint"],
)
def test_a_class_that_can_never_serve_says_why(one: DeviceClass, gpu: Gpu, why: str | None) -> None:
    assert too_small(one, gpu) == why


@given(st.integers(1, 8), st.none() | st.integers(1, 64), st.integers(1, 64))
def test_what_is_sized_is_enough_and_no_more_than_allowed(unit: int, most: int | None, count: int) -> None:
    one, gpu = DeviceClass(name="x", kind="cuda", resources={NVIDIA: unit}, max_count=most), Gpu(count=count)

    found = sized(one, gpu)

    assert too_small(found, gpu) == too_small(one, gpu)
    assert (gpus(found) >= count) == (too_small(one, gpu) is None)
    assert gpus(found) <= max(most or 1, unit)
