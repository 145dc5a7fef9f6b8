"""What every device strategy promises, and what each of the built-in ones chooses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import DeviceUnavailable
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
        lambda index, kind, free, resources: Stock(
            class_=DeviceClass(name=f"c{index}", kind=kind, resources=resources), free=free, total=None if free is None else free + 1
        ),
        st.integers(0, 5),
        st.sampled_from(["cpu", "cuda", "remote"]),
        COUNTS,
        st.sampled_from([{}, {NVIDIA: 1}, {NVIDIA: 2, "x": 1}]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda stock: stock.class_.name,
)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(stocks=STOCKS, data=st.data())
def test_every_wished_class_is_ranked_once_with_a_sentence(name: str, stocks: list[Stock], data: st.DataObject):
    strategy: DeviceStrategy = STRATEGIES[name]()
    names = [stock.class_.name for stock in stocks]
    wished = tuple(data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    try:
        choices = strategy.rank(DeviceRequest(classes=wished), stocks)
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
