"""What every device strategy promises, and what each of the built-in ones chooses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import DeviceUnavailable
from agenttask.api.task import Gpu
from agenttask.plugin.device import Choice, DeviceClass, DeviceRequest, DeviceStrategy, Stock
from agenttask_devices import agenttask_device_strategies

STRATEGIES = agenttask_device_strategies()
NVIDIA = "nvidia.com/gpu"
GPU = DeviceClass(name="gpu", kind="cuda", resources={NVIDIA: 1})
CPU = DeviceClass(name="cpu")
REMOTE = DeviceClass(name="api", kind="remote")


def gpus(free: int | None, total: int | None) -> Stock:
    return Stock(class_=GPU, free=free, total=total)


def rank(strategy: str, *stocks: Stock) -> list[tuple[str, bool]]:
    request = DeviceRequest(classes=tuple(stock.class_.name for stock in stocks))
    return [(choice.class_, choice.usable) for choice in STRATEGIES[strategy]().rank(request, stocks)]


def verdict(stock: Stock) -> str:
    (choice,) = STRATEGIES["auto"]().rank(DeviceRequest(classes=(stock.class_.name,)), [stock])
    return choice.verdict


COUNTS = st.none() | st.integers(0, 3)
STOCKS = st.lists(
    st.builds(
        lambda index, kind, free, resources, cost, memory: Stock(
            class_=DeviceClass(name=f"c{index}", kind=kind, resources=resources, cost=cost, gpu_memory=memory),
            free=free,
            total=None if free is None else free + 1,
        ),
        st.integers(0, 5),
        st.sampled_from(["cpu", "cuda", "remote"]),
        COUNTS,
        st.sampled_from([{}, {NVIDIA: 1}, {NVIDIA: 2, "x": 1}]),
        st.sampled_from([None, 0, 7, "0.25"]),
        st.sampled_from([None, 0, "5Gi", "80G"]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda stock: stock.class_.name,
)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(stocks=STOCKS, gpu=st.sampled_from([None, Gpu(), Gpu(count=4, memory="10Gi")]), data=st.data())
def test_every_wished_class_is_ranked_once_with_a_sentence(name: str, stocks: list[Stock], gpu: Gpu | None, data: st.DataObject):
    strategy: DeviceStrategy = STRATEGIES[name]()
    names = [stock.class_.name for stock in stocks]
    wished = tuple(data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    try:
        choices = strategy.rank(DeviceRequest(classes=wished, gpu=gpu), stocks)
    except DeviceUnavailable:
        return
    assert sorted(choice.class_ for choice in choices) == sorted(wished)
    assert all(isinstance(choice, Choice) and choice.verdict for choice in choices)
    stock_of = {stock.class_.name: stock for stock in stocks}
    assert all(stock_of[choice.class_].free != 0 for choice in choices if choice.usable)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_ranking_twice_gives_the_same(name: str):
    assert rank(name, gpus(1, 4), Stock(class_=CPU)) == rank(name, gpus(1, 4), Stock(class_=CPU))


def test_auto_takes_the_wishes_in_their_order():
    assert rank("auto", gpus(0, 4), Stock(class_=REMOTE), Stock(class_=CPU)) == [("gpu", False), ("api", True), ("cpu", True)]


def test_auto_takes_a_class_whose_stock_is_not_known():
    assert rank("auto", gpus(None, None)) == [("gpu", True)]


def test_cpu_passes_over_a_free_gpu():
    assert rank("cpu", gpus(4, 4), Stock(class_=CPU)) == [("cpu", True), ("gpu", False)]


def test_gpu_waits_where_only_a_cpu_is_free():
    assert rank("gpu", Stock(class_=CPU), gpus(0, 4)) == [("gpu", False), ("cpu", False)]


@pytest.mark.parametrize(("strategy", "stock"), [("cpu", gpus(4, 4)), ("gpu", Stock(class_=CPU)), ("gpu", Stock(class_=REMOTE))])
def test_a_strategy_that_can_never_be_satisfied_says_so_at_once(strategy: str, stock: Stock):
    with pytest.raises(DeviceUnavailable) as caught:
        rank(strategy, stock)
    assert f"none of those wished is: {stock.class_.name} ({stock.class_.kind}); wish another class" in str(caught.value)


@pytest.mark.parametrize(
    ("stock", "sentence"),
    [
        (gpus(0, 0), "no node offers nvidia.com/gpu"),
        (gpus(1, 4), "1 of 4 nvidia.com/gpu free"),
        (gpus(0, 4), "all 4 nvidia.com/gpu in use"),
        (gpus(None, None), "nvidia.com/gpu not counted, left to the scheduler"),
        (Stock(class_=DeviceClass(name="pair", resources={NVIDIA: 2}), free=1, total=2), "1 of 2 places for 2 x nvidia.com/gpu free"),
        (Stock(class_=CPU), "needs no device"),
        (Stock(class_=DeviceClass(name="dra", resource_claim_template="one-gpu")), "claims by one-gpu not counted, left to the scheduler"),
        (Stock(class_=CPU, free=0, total=0), "there is none"),
        (Stock(class_=CPU, free=1, total=1), "1 of 1 places free"),
        (Stock(class_=DeviceClass(name="arm", node_selector={"arch": "arm64"}), free=0, total=0), "no node matches arch=arm64"),
    ],
)
def test_a_verdict_reads_as_a_sentence(stock: Stock, sentence: str):
    assert verdict(stock) == sentence


def test_a_class_of_another_kind_is_passed_over_with_the_reason():
    choices = STRATEGIES["cpu"]().rank(DeviceRequest(classes=("gpu", "cpu")), [gpus(4, 4), Stock(class_=CPU)])
    assert choices[-1].verdict == "is of kind cuda; strategy cpu takes only cpu"


# ---- the built-in strategies that compare classes

MIG = DeviceClass(name="mig", kind="cuda", resources={"nvidia.com/mig-1g.5gb": 1}, gpu_memory="5Gi", cost="0.4")
A100 = DeviceClass(name="a100", kind="cuda", resources={NVIDIA: 1}, gpu_memory="80Gi", cost=3)
PAIR = DeviceClass(name="pair", kind="cuda", resources={NVIDIA: 2}, gpu_memory="40Gi", cost="2.5")
AMD = DeviceClass(name="amd", kind="cuda", resources={"amd.com/gpu": 1})
FREE = DeviceClass(name="cpu", cost=0)


def order(strategy: str, *classes: DeviceClass, gpu: Gpu | None = None) -> list[str]:
    request = DeviceRequest(classes=tuple(one.name for one in classes), gpu=gpu)
    return [choice.class_ for choice in STRATEGIES[strategy]().rank(request, [Stock(class_=one, free=1, total=1) for one in classes])]


def test_smallest_takes_no_gpu_where_none_is_asked_for_and_calls_nobody_before_all_else():
    assert order("smallest", REMOTE, A100, MIG, CPU) == ["cpu", "mig", "a100", "api"]


def test_smallest_takes_the_least_gpu_that_is_enough():
    assert order("smallest", AMD, PAIR, A100, CPU, MIG, gpu=Gpu(memory="4Gi")) == ["mig", "a100", "pair", "amd", "cpu"]


def test_smallest_keeps_the_order_of_wish_among_equals():
    other = DeviceClass(name="other", kind="cuda", resources={NVIDIA: 1})
    assert order("smallest", other, AMD) == ["other", "amd"]
    assert order("smallest", AMD, other) == ["amd", "other"]


def test_cheapest_takes_the_lowest_cost_and_what_has_none_last():
    assert order("cheapest", AMD, A100, PAIR, REMOTE, MIG, FREE) == ["cpu", "mig", "pair", "a100", "amd", "api"]


def test_cheapest_says_the_cost():
    stocks = [gpus(0, 4), Stock(class_=MIG, free=1, total=7)]
    choices = STRATEGIES["cheapest"]().rank(DeviceRequest(classes=("gpu", "mig")), stocks)
    assert [choice.verdict for choice in choices] == [
        "cost 0.4; 1 of 7 nvidia.com/mig-1g.5gb free",
        "cost unknown; all 4 nvidia.com/gpu in use",
    ]
