"""A strategy ranks, placement checks its answer and says in a sentence what came of it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttask.api.errors import DeviceUnavailable
from agenttask.api.reasons import Reason
from agenttask.api.report import shorten
from agenttask.api.task import Gpu, Verdict
from agenttask.domain.device import Choice, DeviceClass, DeviceRequest, Stock
from agenttask.domain.device_size import too_small
from agenttask.domain.placement import MAX_VERDICT, Placement, place

GPU, CPU = DeviceClass(name="gpu", kind="cuda", resources={"nvidia.com/gpu": 1}), DeviceClass(name="cpu")
INVENTORY = (Stock(class_=GPU, free=0, total=4), Stock(class_=CPU))


class Answers:
    """A strategy that answers as it is told."""

    def __init__(self, answer: Callable[[DeviceRequest], Any]) -> None:
        self._answer = answer

    def rank(self, request: DeviceRequest, inventory: Any) -> Any:
        return self._answer(request)


def ranked(*choices: tuple[str, bool, str]) -> Answers:
    return Answers(lambda _: [Choice(class_=name, usable=usable, verdict=verdict) for name, usable, verdict in choices])


def test_the_best_usable_class_is_chosen_and_the_reason_tells_what_stood_above_it():
    assert place(("gpu", "cpu"), ranked(("gpu", False, "all 4 in use"), ("cpu", True, "needs no device")), INVENTORY) == Placement(
        chosen=CPU,
        reason="gpu: all 4 in use; cpu: needs no device",
        considered=(Verdict(class_="gpu", verdict="all 4 in use"), Verdict(class_="cpu", verdict="needs no device")),
    )


def test_what_stands_below_the_chosen_class_is_considered_and_no_reason():
    placement = place(("cpu", "gpu"), ranked(("cpu", True, "a"), ("gpu", True, "b")), INVENTORY)
    assert (placement.reason, len(placement.considered)) == ("cpu: a", 2)


def test_a_task_waits_while_no_class_is_usable():
    placement = place(("gpu",), ranked(("gpu", False, "all 4 in use")), INVENTORY)
    assert (placement.chosen, placement.waiting, placement.reason) == (None, Reason.WAITING_FOR_DEVICE, "gpu: all 4 in use")


def test_a_strategy_that_considers_nothing_makes_the_task_wait():
    assert place(("gpu",), ranked(), INVENTORY).reason == "the strategy considers no class"


def test_a_class_that_is_not_defined_makes_the_task_wait_even_where_another_would_do():
    placement = place(("gpus", "cpu"), ranked(("cpu", True, "a")), INVENTORY)
    assert (placement.waiting, placement.reason) == (
        Reason.UNKNOWN_CLASS,
        "no device class is called 'gpus'; the installation defines: cpu, gpu; did you mean 'gpu'?",
    )


def test_an_installation_without_classes_makes_the_task_wait():
    assert place((), ranked(), ()).waiting is Reason.UNKNOWN_CLASS


def test_no_wish_is_every_class_in_the_order_of_the_installation():
    seen: list[DeviceRequest] = []

    def answer(request: DeviceRequest) -> list[Choice]:
        seen.append(request)
        return []

    place((), Answers(answer), INVENTORY)
    assert seen == [DeviceRequest(classes=("gpu", "cpu"))]


def test_a_strategy_may_say_that_waiting_is_pointless():
    def answer(_: DeviceRequest) -> None:
        raise DeviceUnavailable("never")

    with pytest.raises(DeviceUnavailable, match=r"^never$"):
        place(("cpu",), Answers(answer), INVENTORY)


def fails(_: DeviceRequest) -> None:
    raise ZeroDivisionError("x" * 999)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(fails, "device strategy Answers failed: ZeroDivisionError: xxx", id="raises"),
        pytest.param(lambda _: None, "answers NoneType, not a list of choices", id="nothing"),
        pytest.param(lambda _: "cpu", "answers str, not a list", id="a string"),
        pytest.param(lambda _: ["cpu"], "'cpu' is no choice", id="no choice"),
        pytest.param(lambda _: [Choice(class_="cpu", usable=True, verdict=None)], "is no choice", id="no verdict"),  # type: ignore[arg-type]  # on purpose
        pytest.param(
            lambda _: [Choice(class_="tpu", usable=True, verdict="")], "it chooses 'tpu'; there are: cpu, gpu", id="unknown class"
        ),
    ],
)
def test_a_broken_strategy_is_a_typed_error_that_names_it(answer: Callable[[DeviceRequest], Any], said: str):
    with pytest.raises(DeviceUnavailable) as caught:
        place(("cpu",), Answers(answer), INVENTORY)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_verdict_is_cut_to_its_bound():
    assert len(place(("cpu",), ranked(("cpu", True, "x" * 9999)), INVENTORY).considered[0].verdict) == 256


# ---- classes that are out of the question

AUTO = Answers(lambda request: [Choice(class_=name, usable=True, verdict="here I am") for name in request.classes])
SMALL = DeviceClass(name="mig", kind="cuda", resources={"nvidia.com/mig-1g.5gb": 1}, gpu_memory="5Gi")


def test_a_class_that_is_out_is_never_taken_whatever_the_strategy_says():
    placement = place(("gpu", "cpu"), AUTO, INVENTORY, out={"gpu": "unschedulable for 60 s: 0/1 nodes are available"})

    assert placement.chosen == CPU
    assert placement.considered[0] == Verdict(class_="gpu", verdict="unschedulable for 60 s: 0/1 nodes are available")
    assert placement.reason == "gpu: unschedulable for 60 s: 0/1 nodes are available; cpu: here I am"


def test_a_strategy_sees_no_stock_of_a_class_that_is_out():
    shown: list[Stock] = []

    class Looks:
        def rank(self, request: DeviceRequest, inventory: Any) -> Any:
            shown.extend(inventory)
            return []

    place((), Looks(), (Stock(class_=GPU), Stock(class_=CPU)), out={"gpu": "no"})

    assert shown == [Stock(class_=GPU, free=0, total=0), Stock(class_=CPU)]


def test_a_task_waits_where_all_classes_are_out_for_now():
    assert place(("cpu",), AUTO, INVENTORY, out={"cpu": "not now"}).waiting is Reason.WAITING_FOR_DEVICE


def test_a_task_that_no_class_can_ever_serve_does_not_wait():
    with pytest.raises(DeviceUnavailable) as caught:
        place(("mig",), AUTO, (Stock(class_=SMALL),), gpu=Gpu(memory="24Gi"))

    assert str(caught.value) == "no class can serve the task: mig: has 5Gi a GPU, device.gpu.memory is 24Gi"


def test_a_class_that_is_too_small_is_passed_over_and_the_task_waits_for_another():
    stocks = (Stock(class_=SMALL, free=7, total=7), Stock(class_=GPU, free=0, total=4))

    class Auto:
        def rank(self, request: DeviceRequest, inventory: Any) -> Any:
            return [Choice(class_=one.class_.name, usable=one.free > 0, verdict=f"{one.free} free") for one in inventory]

    placement = place((), Auto(), stocks, gpu=Gpu(memory="24Gi"))

    assert (placement.waiting, placement.reason) == (
        Reason.WAITING_FOR_DEVICE,
        "mig: has 5Gi a GPU, device.gpu.memory is 24Gi; gpu: 0 free",
    )


def test_the_strategy_is_told_of_the_wished_gpus():
    told: list[DeviceRequest] = []

    def answer(request: DeviceRequest) -> Any:
        told.append(request)
        return [Choice(class_="gpu", usable=True, verdict="yes")]

    place(("gpu",), Answers(answer), INVENTORY, gpu=Gpu(count=1))

    assert told == [DeviceRequest(classes=("gpu",), gpu=Gpu(count=1))]


NAMES = st.sampled_from(["a", "b", "c", "d"])
CHOICES = st.lists(st.builds(Choice, class_=NAMES, usable=st.booleans(), verdict=st.text(max_size=300)), max_size=6)
KINDS = st.sampled_from(["cpu", "cuda", "remote"])
MANY = st.tuples(*[st.builds(DeviceClass, name=st.just(name), kind=KINDS, gpu_memory=st.sampled_from([None, "5Gi"])) for name in "abcd"])


@given(MANY, CHOICES, st.dictionaries(NAMES, st.text(max_size=300)), st.sampled_from([None, Gpu(memory="24Gi"), Gpu(count=2), Gpu()]))
def test_whatever_a_strategy_says_a_class_that_is_out_is_not_chosen(
    classes: tuple[DeviceClass, ...], answer: list[Choice], out: dict[str, str], gpu: Gpu | None
):
    stocks = [Stock(class_=one) for one in classes]
    try:
        found = place((), Answers(lambda _: answer), stocks, gpu=gpu, out=out)
    except DeviceUnavailable:
        assert not any(
            choice.usable and too_small(dict(zip("abcd", classes, strict=True))[choice.class_], gpu) is None for choice in answer
        )
        return
    verdicts = {one.class_: one.verdict for one in found.considered}
    for one in classes:
        if one.name in out and one.name in verdicts and too_small(one, gpu) is None:
            assert verdicts[one.name] == shorten(out[one.name], MAX_VERDICT)
    if found.chosen is not None:
        assert found.chosen.name not in out
        assert too_small(found.chosen, gpu) is None
        assert any(choice.usable and choice.class_ == found.chosen.name for choice in answer)
