"""What is there of each class, counted from nodes and from what our own pods hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.domain.device import DeviceClass, Stock
from agenttask.domain.stock import NodeView, UsedView, stock

NVIDIA = "nvidia.com/gpu"
GPU = DeviceClass(name="gpu", kind="cuda", resources={NVIDIA: 1})
PAIR = DeviceClass(name="pair", kind="cuda", resources={NVIDIA: 2})
CPU = DeviceClass(name="cpu")
A100 = DeviceClass(name="a100", kind="cuda", resources={NVIDIA: 1}, node_selector={"gpu": "a100"})


def node(name: str, gpus: int = 0, *, schedulable: bool = True, **labels: str) -> NodeView:
    return NodeView(name=name, labels=labels, allocatable={NVIDIA: gpus} if gpus else {}, schedulable=schedulable)


def counted(one: DeviceClass, nodes: list[NodeView] | None, *used: UsedView) -> tuple[int | None, int | None]:
    (found,) = stock([one], nodes, used)
    return found.free, found.total


@pytest.mark.parametrize(
    ("one", "nodes", "used", "expected"),
    [
        pytest.param(GPU, None, [], (None, None), id="nodes may not be read"),
        pytest.param(GPU, [], [], (0, 0), id="no node"),
        pytest.param(GPU, [node("a")], [], (0, 0), id="no node has one"),
        pytest.param(GPU, [node("a", 4), node("b", 2)], [], (6, 6), id="all free"),
        pytest.param(GPU, [node("a", 4)], [UsedView(node="a", resources={NVIDIA: 3})], (1, 4), id="some held"),
        pytest.param(GPU, [node("a", 4)], [UsedView(node="a", resources={NVIDIA: 9})], (0, 4), id="more held than there is"),
        pytest.param(GPU, [node("a", 4)], [UsedView(node="gone", resources={NVIDIA: 3})], (4, 4), id="held on another node"),
        pytest.param(GPU, [node("a", 4)], [UsedView(node="", resources={NVIDIA: 1})] * 2, (2, 4), id="pods that no node has yet"),
        pytest.param(GPU, [node("a", 4, schedulable=False), node("b", 1)], [], (1, 1), id="a cordoned node"),
        pytest.param(PAIR, [node("a", 3), node("b", 1)], [], (1, 1), id="two at once fit on one node only"),
        pytest.param(PAIR, [node("a", 4)], [UsedView(node="", resources={NVIDIA: 1})], (1, 2), id="one waiting takes a pair's place"),
        pytest.param(A100, [node("a", 4, gpu="t4"), node("b", 2, gpu="a100")], [], (2, 2), id="by label"),
        pytest.param(CPU, [node("a")], [], (None, None), id="nothing to count"),
        pytest.param(CPU, [node("a", schedulable=False)], [], (None, None), id="nothing to count and no node: an autoscaler sees the pod"),
        pytest.param(
            DeviceClass(name="arm", node_selector={"kubernetes.io/arch": "arm64"}),
            [node("a", **{"kubernetes.io/arch": "amd64"})],
            [],
            (0, 0),
            id="nothing to count, no node matches",
        ),
        pytest.param(
            DeviceClass(name="x", node_selector={"feature": "avx512"}),
            [node("a")],
            [],
            (None, None),
            id="a label that no node has",
        ),
        pytest.param(DeviceClass(name="x", node_selector={"feature": "avx512"}), [], [], (None, None), id="a label, and no node"),
        pytest.param(A100, [node("a", 2)], [], (None, None), id="devices, and nobody has set the label"),
        pytest.param(A100, [node("a")], [], (0, 0), id="no devices, and nobody has set the label"),
        pytest.param(
            DeviceClass(name="x", node_selector={"gpu": "a100", "zone": "b"}, resources={NVIDIA: 1}),
            [node("a", 2, zone="a"), node("b", 2, zone="c")],
            [],
            (0, 0),
            id="the label that is set says no",
        ),
        pytest.param(DeviceClass(name="x", kind="cuda", resource_claim_template="gpu"), [node("a")], [], (None, None), id="claims"),
        pytest.param(DeviceClass(name="z", resources={NVIDIA: 0}), [node("a")], [], (None, None), id="none asked for"),
    ],
)
def test_stock_is_how_many_tasks_fit(
    one: DeviceClass, nodes: list[NodeView] | None, used: list[UsedView], expected: tuple[int | None, int | None]
):
    assert counted(one, nodes, *used) == expected


def test_every_class_has_its_stock_in_the_order_given():
    assert stock([CPU, GPU], [node("a", 1)], []) == (Stock(class_=CPU), Stock(class_=GPU, free=1, total=1))


AMOUNTS = st.integers(0, 9)


@given(st.lists(AMOUNTS, max_size=4), st.lists(st.tuples(st.sampled_from(["n0", "n1", ""]), AMOUNTS), max_size=6), st.integers(1, 4))
def test_free_is_never_negative_and_never_more_than_the_total(gpus: list[int], used: list[tuple[str, int]], wanted: int):
    nodes = [node(f"n{index}", amount) for index, amount in enumerate(gpus)]
    held = [UsedView(node=name, resources={NVIDIA: amount}) for name, amount in used]
    free, total = counted(DeviceClass(name="x", resources={NVIDIA: wanted}), nodes, *held)
    assert free is not None
    assert total is not None
    assert 0 <= free <= total
