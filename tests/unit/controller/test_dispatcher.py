"""Turns: who gets one, who is woken, what is taken until when, and that nothing is given twice."""

from typing import Any

import msgspec
import pytest
from tests.fakes.seen import spec

from agenttask.api.meta import ObjectMeta
from agenttask.api.reasons import Reason
from agenttask.controller.acceptance import PluginNames
from agenttask.controller.admission import DeviceWish, Gate
from agenttask.controller.dispatcher import MOST_WISHES, Dispatcher
from agenttask.controller.installation import Installation
from agenttask.controller.inventory import Inventory
from agenttask.controller.kube_errors import Forbidden, NotFound
from agenttask.controller.line_keeper import REFUSED_SECONDS, STATUS_SECONDS, LineKeeper
from agenttask.controller.queues import QueueObject, Queues
from agenttask.controller.quota_gate import AGAIN, QuotaGate, pod_wish
from agenttask.controller.surroundings import Models
from agenttask.controller.waiting_notes import POSITIONS_SECONDS, SHOWN_POSITIONS, WOKEN
from agenttask.controller.wire import Node, Pod
from agenttask.domain.device import DeviceClass
from agenttask.domain.observation import Admission, Admitted, Waits
from agenttask.domain.queueing import Wish
from agenttask.plugin.registry import load

NOW = 1_800_000_000.0
GPU = "nvidia.com/gpu"
INSTALLATION = Installation(device_classes=(DeviceClass(name="cpu"), DeviceClass(name="gpu", kind="cuda", resources={GPU: 1})))
ACCEPTED = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "message": "",
    "lastTransitionTime": "2027-01-15T08:00:00Z",
    "observedGeneration": 1,
}
NAMES = PluginNames(
    step_kinds=frozenset(),
    threading=frozenset(),
    llm_clients=frozenset(),
    model_factories=frozenset(),
    device_strategies=frozenset({"auto"}),
)


class Health:
    """What runners would have told."""

    def __init__(self) -> None:
        self.opened: dict[str, float] = {}
        self.loads: dict[str, float] = {}

    def open_until(self, namespace: str, model: str) -> float | None:
        return self.opened.get(model)

    def load(self, namespace: str, model: str) -> float | None:
        return self.loads.get(model)

    def requests(self, namespace: str, model: str) -> float | None:
        return None


class Writer:
    """Notes what is written; an error to raise is raised once."""

    def __init__(self) -> None:
        self.written: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    async def patch_status(self, path: str, body: bytes) -> bytes:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.written.append((path.rpartition("/")[2], msgspec.json.decode(body)["status"]))
        return b"{}"


class Bench:
    """A dispatcher with everything it looks at."""

    def __init__(self, *, max_running: int = 0, gpus: int | None = None, opened: bool = True, quota: QuotaGate | None = None) -> None:
        self.now, self.woken, self.health, self.charged = NOW, list[str](), Health(), set[str]()
        self.inventory = Inventory(INSTALLATION.device_classes, lambda: self.turns.devices_changed())
        self.queues = Queues(lambda namespace, name: self.turns.queue_changed(namespace, name))
        self.models = Models(lambda key: self.turns.model_changed(key[1]))
        self.quota = quota or QuotaGate(
            INSTALLATION, charged=self.charged.__contains__, later=lambda _, call, uid: call(uid), random=lambda: 1.0
        )
        strategies = load(allowed_distributions=("agenttask",)).device_strategies
        self.gate = Gate(INSTALLATION, NAMES, {"auto": strategies.choose("auto")()})
        self.turns = Dispatcher(
            queues=self.queues,
            models=self.models,
            inventory=self.inventory,
            gate=self.gate,
            quota=self.quota,
            installation=INSTALLATION,
            health=self.health,
            max_running=max_running,
            wake=self.woken.append,
            clock=lambda: self.now,
        )
        self.writer = Writer()
        self.keeper = LineKeeper(
            queues=self.queues, dispatcher=self.turns, classes=["cpu", "gpu"], writer=self.writer, per_second=2, clock=lambda: self.now
        )
        if gpus is not None:
            node = {"metadata": {"name": "n1"}, "status": {"allocatable": {GPU: str(gpus)}}}
            self.inventory.on_node(None, msgspec.convert(node, Node))
            self.inventory.learn_nodes(known=True)
        if opened:
            self.turns.open()

    def queue(
        self, name: str = "q", *, namespace: str = "n", gone: bool = False, status: dict[str, object] | None = None, **of: object
    ) -> None:
        metadata = ObjectMeta(name=name, namespace=namespace, uid=f"{namespace}/{name}", generation=1)
        one = msgspec.convert({"metadata": msgspec.to_builtins(metadata), "spec": of, "status": status or {}}, QueueObject)
        self.queues.on_change(one, None) if gone else self.queues.on_change(None, one)

    def model(self, name: str, **of: object) -> None:
        self.models.put({"metadata": {"namespace": "n", "name": name}, "spec": {"client": "scripted", "model": "m", **of}})

    def wish(
        self,
        queue: str = "q",
        *,
        namespace: str = "n",
        classes: tuple[str, ...] = ("cpu",),
        models: tuple[str, ...] = (),
        memory: str = "1Gi",
    ) -> Wish:
        one = spec(device={"classes": list(classes)}, pod={"resources": {"limits": {"memory": memory}}})
        return Wish(namespace=namespace, queue=queue, device=DeviceWish(device=one.device), models=models, pod=pod_wish(one))

    def ask(self, uid: str, wish: Wish | None = None, *, priority: int = 0, since: float = NOW) -> Admission:
        return self.turns.ask(uid, wish or self.wish(), priority=priority, since=since)

    def hold(self, uid: str, wish: Wish | None = None, class_: str = "cpu") -> None:
        self.turns.hold(uid, class_, lambda: wish or self.wish())


def reason(found: Admission) -> str:
    """The waiting reason, or the class."""
    return found.reason if isinstance(found, Waits) else found.device.class_ if isinstance(found, Admitted) else "refused"


def pod(name: str, owner: str, *, gpus: int = 1, phase: str = "Pending") -> Pod:
    owners = [{"kind": "AgentTask", "uid": owner, "controller": True}]
    containers = [{"resources": {"limits": {GPU: str(gpus)}}}]
    return msgspec.convert(
        {
            "metadata": {"name": name, "uid": name, "ownerReferences": owners},
            "spec": {"containers": containers},
            "status": {"phase": phase},
        },
        Pod,
    )


def test_a_turn_is_taken_when_it_is_given_and_kept_until_its_task_leaves() -> None:
    bench = Bench()
    bench.queue(concurrency=1)

    assert [reason(bench.ask(uid)) for uid in ("a", "b", "a", "b")] == ["cpu", "QueueFull", "cpu", "QueueFull"]
    bench.hold("a")
    assert reason(bench.ask("b")) == "QueueFull"
    bench.turns.leave("a")
    assert bench.woken == ["b"]
    assert reason(bench.ask("b")) == "cpu"


def test_who_gets_the_turn_is_the_first_in_line_and_nobody_else_is_woken() -> None:
    bench = Bench()
    bench.queue(concurrency=1)
    bench.ask("running")
    for uid, priority in (("low", 0), ("high", 5), ("middle", 1)):
        bench.ask(uid, priority=priority)
    bench.ask("low", priority=9)
    bench.turns.leave("running")

    assert bench.woken == ["low"]
    bench.turns.leave("low")
    assert bench.woken == ["low", "high"]


def test_nothing_is_given_before_every_pod_is_known() -> None:
    bench = Bench(opened=False)
    bench.queue(concurrency=2)
    assert reason(bench.ask("a", since=NOW - 1)) == "QueueFull"
    bench.ask("b", priority=7)
    bench.hold("of an earlier controller")
    bench.turns.open()

    assert bench.woken == ["b"]


def test_a_paused_queue_and_one_that_went_let_those_run_that_run() -> None:
    bench = Bench()
    bench.queue()
    bench.ask("runs")
    bench.queue(paused=True)
    assert (reason(bench.ask("runs")), reason(bench.ask("waits"))) == ("cpu", "QueuePaused")
    bench.queue(gone=True)
    assert bench.woken == ["waits"]  # what it waits for is another thing now
    assert (reason(bench.ask("runs")), reason(bench.ask("waits"))) == ("cpu", "UnknownQueue")
    bench.queue()
    assert bench.woken == ["waits", "waits"]
    assert reason(bench.ask("waits")) == "cpu"


def test_the_default_queue_is_there_without_being_there() -> None:
    bench = Bench()
    assert reason(bench.ask("a", bench.wish("default"))) == "cpu"
    bench.queue("default", paused=True)
    assert reason(bench.ask("b", bench.wish("default"))) == "QueuePaused"


def test_one_of_another_namespace_is_next_whatever_ten_thousand_wish() -> None:
    bench = Bench(max_running=2)
    many, few = bench.wish("default", namespace="many"), bench.wish("default", namespace="few")
    for number in range(10_000):
        bench.ask(f"{number}", many, priority=1000, since=NOW + number)
    assert reason(bench.ask("one", few)) == "QueueFull"
    bench.turns.leave("0")

    assert bench.woken == ["one"]


def test_devices_that_are_promised_are_not_promised_again() -> None:
    bench = Bench(gpus=1)
    gpu = bench.wish("default", classes=("gpu",))
    assert [reason(bench.ask(uid, gpu)) for uid in ("a", "b")] == ["gpu", "WaitingForDevice"]
    bench.inventory.pod_changed(pod("pod-a", "a"), gone=False)
    bench.hold("a", gpu, "gpu")
    assert reason(bench.ask("b", gpu)) == "WaitingForDevice"
    bench.inventory.pod_changed(pod("pod-a", "a", phase="Succeeded"), gone=False)

    assert bench.woken == ["b"]
    assert reason(bench.ask("c", gpu)) == "WaitingForDevice"
    bench.turns.leave("b")
    assert bench.woken == ["b", "c"]


def test_a_queue_bounds_its_tasks_on_a_class_and_sends_them_elsewhere() -> None:
    bench = Bench(gpus=8)
    bench.queue(devices={"gpu": 1})
    wish = bench.wish(classes=("gpu", "cpu"))
    assert [reason(bench.ask(uid, wish)) for uid in ("a", "b")] == ["gpu", "cpu"]
    only = bench.ask("c", bench.wish(classes=("gpu",)))
    assert only == Waits(
        reason=Reason.WAITING_FOR_DEVICE, message="gpu: AgentQueue 'q' has 1 tasks on it, its devices.gpu is 1", position=1
    )
    assert reason(bench.ask("d", bench.wish("default", classes=("gpu",)))) == "gpu"


def test_a_model_that_is_full_or_failing_holds_its_tasks_only() -> None:
    bench = Bench()
    bench.queue()
    bench.model("small", limits={"concurrentCalls": 1})
    asking = bench.wish(models=("small",))
    assert [reason(bench.ask(uid, asking)) for uid in ("a", "b")] == ["cpu", "ModelFull"]
    bench.health.opened = {"small": NOW + 30}
    assert [reason(bench.ask("b", asking)), reason(bench.ask("c"))] == ["ModelBreakerOpen", "cpu"]
    bench.turns.leave("a")
    assert bench.woken == []
    bench.now += 31
    bench.turns.tick()
    assert bench.woken == ["b"]


def test_a_breaker_that_closed_lets_the_first_go_even_if_another_asks() -> None:
    bench = Bench()
    bench.queue()
    bench.model("small")
    bench.health.opened = {"small": NOW + 30}
    asking = bench.wish(models=("small",))
    for uid in ("a", "b"):
        bench.ask(uid, asking)
    bench.now += 31

    assert (reason(bench.ask("b", asking)), bench.woken) == ("cpu", ["a"])


def test_a_class_that_is_not_defined_any_more_holds_its_tasks_only() -> None:
    bench = Bench(max_running=2)
    bench.hold("of the last version", bench.wish("default", classes=("tpu",)), "tpu")
    waits = bench.ask("a", bench.wish("default", classes=("tpu",)), priority=9)

    assert reason(waits) == "UnknownClass"
    assert reason(bench.ask("b", bench.wish("default"))) == "cpu"
    assert reason(bench.ask("c", bench.wish("default"))) == "QueueFull"


def test_a_larger_limit_of_a_model_wakes_as_many_as_it_serves() -> None:
    bench = Bench()
    bench.queue()
    bench.model("small", limits={"concurrentCalls": 1})
    for uid in "abcd":
        bench.ask(uid, bench.wish(models=("small",)))
    bench.model("small", limits={"concurrentCalls": 3})

    assert bench.woken == ["b", "c"]


def test_an_attempt_that_is_over_gives_its_turn_back_before_the_next_one_asks() -> None:
    bench = Bench()
    bench.queue(concurrency=1)
    bench.ask("a")
    bench.hold("a")
    bench.ask("b", priority=1)

    assert reason(bench.ask("a")) == "QueueFull"
    assert bench.woken == ["b"]


def test_the_first_are_told_their_place_and_again_when_it_is_another() -> None:
    bench = Bench()
    bench.queue(paused=True)
    found = [bench.ask(f"{number:03}") for number in range(100)]
    places = [one.position for one in found if isinstance(one, Waits)]
    assert places[:SHOWN_POSITIONS] == list(range(1, SHOWN_POSITIONS + 1))
    assert set(places[SHOWN_POSITIONS:]) == {None}
    bench.turns.leave("000")
    bench.turns.tick()
    assert bench.woken == []
    bench.now += POSITIONS_SECONDS
    bench.turns.tick()
    assert bench.woken == [f"{number:03}" for number in range(1, 33)]
    for uid in bench.woken:
        bench.ask(uid)
    bench.now += POSITIONS_SECONDS
    bench.turns.tick()
    assert len(bench.woken) == 32


async def test_the_status_of_a_queue_is_written_when_it_is_another_and_not_at_all_while_it_stays() -> None:
    bench = Bench()
    bench.queue(concurrency=1)
    bench.queue("idle", status={"observedGeneration": 1, "conditions": [ACCEPTED]})
    for uid in ("a", "b"):
        bench.ask(uid)
    for _ in range(3):
        await bench.keeper.write(bench.now)
        bench.now += STATUS_SECONDS - 1
    assert bench.writer.written == [
        ("q", {"observedGeneration": 1, "conditions": [ACCEPTED], "running": 1, "pending": 1, "oldestPendingTime": "2027-01-15T08:00:00Z"})
    ]
    bench.turns.leave("b")
    bench.now += STATUS_SECONDS
    await bench.keeper.write(bench.now)
    now = {"observedGeneration": 1, "conditions": [ACCEPTED], "running": 1, "pending": 0, "oldestPendingTime": None}
    assert bench.writer.written[1:] == [("q", now)]


@pytest.mark.parametrize(
    ("spec_", "reason_", "message"),
    [
        (
            {"devices": {"gpuu": 1, "cpu": 2, "tpu": 0}},
            "UnknownClass",
            (
                "spec.devices: no device class is called 'gpuu', 'tpu', so that bounds nothing; "
                "the installation defines: cpu, gpu; did you mean 'gpu'?"
            ),
        ),
        ({"speed": 9}, "UnknownQueue", "spec cannot be read: Object contains unknown field `speed`"),
    ],
)
async def test_what_of_a_queue_cannot_be_heeded_is_in_its_condition(spec_: dict[str, Any], reason_: str, message: str) -> None:
    bench = Bench()
    bench.queue(**spec_)
    await bench.keeper.write(bench.now)
    ((_, status),) = bench.writer.written
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"], condition["message"]) == ("Accepted", "False", reason_, message)
    bench.now += STATUS_SECONDS
    bench.queue(devices={"gpu": 1})
    await bench.keeper.write(bench.now)

    assert bench.writer.written[1][1]["conditions"] == [ACCEPTED | {"lastTransitionTime": "2027-01-15T08:00:05Z"}]


@pytest.mark.parametrize(
    ("error", "pause"), [(NotFound(404, "NotFound", "q"), STATUS_SECONDS), (Forbidden(403, "Forbidden", "no"), REFUSED_SECONDS)]
)
async def test_a_status_that_is_refused_is_left_for_a_while(error: Exception, pause: float) -> None:
    bench = Bench()
    bench.queue()
    bench.ask("a")
    bench.writer.error = error
    await bench.keeper.write(bench.now)
    await bench.keeper.write(bench.now + pause - 1)
    assert bench.writer.written == []
    bench.ask("b")
    await bench.keeper.write(bench.now + pause)
    assert len(bench.writer.written) == 1


async def test_of_many_queues_that_change_each_has_its_turn_to_be_told() -> None:
    """Ten in five seconds, at two a second: whoever waits longest is next, and nobody is told twice before all were once."""
    bench = Bench()
    for number in range(25):
        bench.queue(f"q{number}")
    rounds = []
    for round_ in range(5):
        for number in range(25):
            bench.ask(f"{round_}-{number}", bench.wish(f"q{number}"))
        before = len(bench.writer.written)
        await bench.keeper.write(bench.now)
        rounds.append([name for name, _ in bench.writer.written[before:]])
        bench.now += STATUS_SECONDS
    assert [len(names) for names in rounds] == [10] * 5
    assert len({*rounds[0], *rounds[1], *rounds[2]}) == 25
    assert {*rounds[3], *rounds[4]} >= {*rounds[0]} - {*rounds[2]}


def test_a_queue_with_a_field_of_a_newer_version_is_there_and_says_so() -> None:
    bench = Bench()
    bench.queue(speed=9)
    found = bench.ask("a")
    assert isinstance(found, Waits)
    assert found.reason is Reason.UNKNOWN_QUEUE
    assert found.message == "AgentQueue 'q' cannot be read: Object contains unknown field `speed`"


# ---- quotas


def exceeded(what: str = "pods=1", used: str = "pods=5", limited: str = "pods=5") -> str:
    return f'pods "x-1" is forbidden: exceeded quota: few, requested: {what}, used: {used}, limited: {limited}'


def test_a_refused_task_keeps_its_place_and_none_of_its_size_is_tried_before_it() -> None:
    bench = Bench()
    bench.queue()
    bench.ask("first", priority=5)
    bench.turns.refused("first", exceeded())
    waits = bench.ask("first", priority=5)
    assert isinstance(waits, Waits)
    assert (waits.reason, waits.position) == (Reason.UNSCHEDULABLE, 1)
    assert waits.message == "exceeded quota: few, requested: pods=1, used: pods=5, limited: pods=5"
    assert [reason(bench.ask(uid, priority=1)) for uid in ("second", "third")] == ["Unschedulable"] * 2
    assert reason(bench.ask("elsewhere", bench.wish("default", namespace="o"))) == "cpu"
    bench.now += AGAIN.initial
    bench.turns.tick()

    assert bench.woken == ["first"]
    assert [reason(bench.ask(uid, priority=5 if uid == "first" else 1)) for uid in ("first", "second")] == ["cpu", "Unschedulable"]
    bench.turns.made("first")
    assert bench.woken == ["first", "second", "third"]


def test_a_try_whose_answer_was_lost_and_whose_pod_is_there_has_succeeded() -> None:
    bench = Bench()
    bench.queue()
    for uid in ("a", "b"):
        bench.ask(uid)
    bench.turns.refused("a", exceeded())
    for uid in ("a", "b"):
        bench.ask(uid)
    bench.now += AGAIN.initial
    assert [reason(bench.ask(uid)) for uid in ("a", "b")] == ["cpu", "Unschedulable"]
    bench.hold("a")

    assert reason(bench.ask("b")) == "cpu"


def test_turns_that_were_given_before_a_refusal_are_taken_back() -> None:
    bench = Bench()
    bench.queue()
    for number in range(20):
        assert reason(bench.ask(f"{number:02}")) == "cpu"
    bench.turns.refused("00", exceeded())

    assert [reason(bench.ask(f"{number:02}")) for number in range(20)] == ["Unschedulable"] * 20
    assert bench.turns.counts("n", "q")[:2] == (0, 20)


def test_a_smaller_pod_that_fits_into_what_is_left_goes_on() -> None:
    bench = Bench()
    bench.queue()
    for uid, memory in (("large", "4Gi"), ("small", "1Gi"), ("large too", "4Gi")):
        bench.ask(uid, bench.wish(memory=memory))
        if uid == "large":
            bench.turns.refused(uid, exceeded("limits.memory=4Gi", "limits.memory=8Gi", "limits.memory=10Gi"))

    assert [reason(bench.ask(uid, bench.wish(memory=memory))) for uid, memory in (("large too", "4Gi"), ("small", "1Gi"))] == [
        "Unschedulable",
        "cpu",
    ]
    assert reason(bench.ask("small too", bench.wish())) == "cpu"
    assert reason(bench.ask("one too many", bench.wish())) == "Unschedulable"


@pytest.mark.parametrize("late", [False, True], ids=["pod Succeeded", "container ended, pod Running"])
def test_a_pod_that_ends_lets_the_first_go_once_the_quota_does_not_count_it_any_more(late: bool) -> None:
    bench = Bench()
    bench.queue()
    for uid in ("runs", "refused"):
        bench.ask(uid)
    bench.turns.made("runs")
    bench.hold("runs")
    bench.turns.refused("refused", exceeded())
    bench.ask("refused")
    if late:
        bench.charged.add("runs")
    bench.turns.leave("runs")
    assert bench.woken == ([] if late else ["refused"])
    bench.quota.pod_ended("runs")
    assert bench.woken == ["refused"]
    assert reason(bench.ask("one more")) == "Unschedulable"


def test_a_device_that_a_quota_has_no_more_of_counts_as_taken() -> None:
    bench = Bench(gpus=8)
    bench.queue()
    either, only = bench.wish(classes=("gpu", "cpu")), bench.wish(classes=("gpu",))
    assert [reason(bench.ask(uid, only)) for uid in ("a", "b")] == ["gpu", "gpu"]
    bench.turns.refused("b", exceeded(f"requests.{GPU}=1", f"requests.{GPU}=4", f"requests.{GPU}=4"))
    waits = bench.ask("b", only)

    assert isinstance(waits, Waits)
    assert waits.reason is Reason.WAITING_FOR_DEVICE
    assert waits.message == f"gpu: exceeded quota: few, requested: requests.{GPU}=1, used: requests.{GPU}=4, limited: requests.{GPU}=4"
    assert reason(bench.ask("c", either)) == "cpu"
    assert bench.turns.taken_classes(either).keys() == {"gpu"}
    bench.turns.made("a")
    bench.hold("a", only, "gpu")
    bench.turns.leave("a")
    assert bench.woken == ["b"]


def test_what_is_no_quotas_refusal_holds_all_pods_of_the_account() -> None:
    bench = Bench()
    bench.queue()
    for uid in ("a", "b"):
        bench.ask(uid)
    bench.turns.refused("a", 'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace "n"')

    assert [reason(bench.ask(uid, bench.wish(memory=size))) for uid, size in (("a", "1Gi"), ("small", "64Mi"))] == ["Unschedulable"] * 2


def test_a_namespace_in_which_nobody_waits_any_more_is_open() -> None:
    bench = Bench()
    bench.queue()
    bench.ask("a")
    bench.turns.refused("a", exceeded())
    bench.ask("a")
    bench.turns.leave("a")
    bench.turns.tick()

    assert reason(bench.ask("b")) == "cpu"


def test_who_is_refused_on_one_class_gets_another_before_any_that_stand_behind_it() -> None:
    bench = Bench(gpus=8)
    bench.queue(concurrency=1)
    either = bench.wish(classes=("gpu", "cpu"))
    assert [reason(bench.ask("high", either, priority=9)), reason(bench.ask("low"))] == ["gpu", "QueueFull"]
    bench.turns.refused("high", exceeded(f"requests.{GPU}=1", f"requests.{GPU}=0", f"requests.{GPU}=0"))

    assert [reason(bench.ask("high", either, priority=9)), reason(bench.ask("low"))] == ["cpu", "QueueFull"]
    assert bench.woken == []


def test_tries_grow_rarer_though_nobody_is_in_line_while_one_is_under_way() -> None:
    bench = Bench()
    bench.queue()
    bench.ask("a")
    bench.turns.refused("a", exceeded())
    bench.ask("a")
    posts, answered = 0, 0.0
    for _ in range(120):
        bench.now += 1
        bench.turns.tick()
        if "a" in bench.woken:
            bench.woken.clear()
            posts, answered = posts + 1, bench.now + 2
        elif bench.now == answered:
            bench.turns.refused("a", exceeded())
            bench.ask("a")

    assert 4 <= posts <= 10


def test_of_many_sizes_most_wait_together_so_that_a_decision_stays_cheap() -> None:
    bench = Bench()
    bench.queue(paused=True)
    for number in range(1000):
        bench.ask(f"{number:03}", bench.wish(memory=f"{64 + number}Mi"), priority=number % 7)
    bench.queue(concurrency=10)

    assert bench.turns.counts("n", "q")[0] == 10
    assert bench.woken[:10] == [f"{number:03}" for number in range(6, 76, 7)]
    assert len({wish.pod for wish in bench.turns._line.wishes()}) <= MOST_WISHES + 1


# ---- what those are told who stand further back


def test_another_reason_reaches_those_behind_the_first_in_rounds() -> None:
    bench = Bench()
    bench.queue(concurrency=1)
    bench.ask("runs")
    for number in range(100):
        bench.ask(f"{number:03}")
    bench.queue(paused=True)
    assert len(bench.woken) == SHOWN_POSITIONS
    for _ in range(20):
        for uid in bench.woken[-WOKEN:]:
            bench.ask(uid)
        bench.turns.tick()

    assert set(bench.woken) == {f"{number:03}" for number in range(100)}
    for uid in set(bench.woken):
        bench.ask(uid)
    woken = len(bench.woken)
    bench.turns.tick()
    bench.turns.tick()
    assert len(bench.woken) == woken


# ---- pods that outlive their tasks


def test_a_turn_is_taken_while_the_pod_of_a_task_that_is_gone_lives() -> None:
    bench = Bench()
    bench.queue(concurrency=1)
    bench.ask("a")
    bench.hold("a")
    bench.ask("b")
    assert bench.turns.hold_until("a", "cpu", bench.wish, NOW + 300)
    assert bench.woken == []
    assert bench.turns.counts("n", "q")[0] == 1
    bench.now += 299
    bench.turns.tick()
    assert bench.woken == []
    bench.now += 1
    bench.turns.tick()

    assert bench.woken == ["a"]  # it is looked at, and its node counts as lost
    assert not bench.turns.hold_until("a", "cpu", bench.wish, NOW + 300)
    assert bench.woken == ["a", "b"]


def test_a_task_that_turns_up_after_its_pod_holds_its_models_too() -> None:
    """Its pod told the queue and the device class alone."""
    bench = Bench(opened=False)
    bench.queue()
    bench.model("small", limits={"concurrentCalls": 1})
    asking = bench.wish(models=("small",))
    assert bench.turns.hold_until("a", "cpu", bench.wish, NOW + 300)
    bench.turns.open()
    bench.hold("a", asking)

    assert list(bench.turns.holders("n", "small")) == ["a"]
    assert reason(bench.ask("b", asking)) == "ModelFull"
    assert bench.turns.hold_until("a", "cpu", bench.wish, NOW + 300)
    assert bench.turns.hold_until("a", "cpu", bench.wish, NOW + 300)
    assert reason(bench.ask("b", asking)) == "ModelFull"  # its pod tells less than is known
