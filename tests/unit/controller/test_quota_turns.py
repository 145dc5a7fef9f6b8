"""The dispatcher under quotas of several resources that name only what is exceeded, and are late to know of a pod's end."""

from collections import Counter
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.seen import spec
from tests.unit.controller.test_dispatcher import GPU, INSTALLATION, Bench, exceeded

from agenttask.controller.admission import DeviceWish
from agenttask.controller.quota_gate import QuotaGate, pod_wish
from agenttask.domain.observation import Admitted
from agenttask.domain.queueing import Wish

RESOURCES: Final = ("limits.cpu", "limits.memory", f"requests.{GPU}")
LOOKS: Final = 3
Amounts = tuple[int, int, int]


class Task(msgspec.Struct, frozen=True):
    """What it asks for; `either` may go to a GPU, and takes a CPU where there is none for it."""

    cpu: int
    memory: int
    priority: int = 0
    either: bool = False

    def wish(self) -> Wish:
        limits = {"cpu": str(self.cpu), "memory": str(self.memory)}
        classes = ["gpu", "cpu"] if self.either else ["cpu"]
        one = spec(device={"classes": classes}, pod={"resources": {"limits": limits, "requests": limits}})
        return Wish(namespace="n", queue="q", device=DeviceWish(device=one.device), pod=pod_wish(one))

    def amounts(self, class_: str) -> Amounts:
        return (self.cpu, self.memory, int(class_ == "gpu"))


class Server:
    """One quota; it knows of an end one step late, and others use it too."""

    def __init__(self, limits: Amounts) -> None:
        self.limits, self.used, self.late, self.foreign = limits, Counter[str](), Counter[str](), Counter[str]()

    def take(self, amounts: Amounts) -> str | None:
        wanted = dict(zip(RESOURCES, amounts, strict=True))
        used = self.used + self.foreign
        over = {
            name: limit for name, limit in zip(RESOURCES, self.limits, strict=True) if wanted[name] and wanted[name] + used[name] > limit
        }
        if not over:
            self.used.update(wanted)
            return None
        words = (",".join(f"{name}={table[name]}" for name in over) for table in (wanted, used, over))
        return exceeded(*words)


class Cluster(QuotaGate):
    """The dispatcher with drivers beside it; a task that is refused looks again at once, up to three times, as a pass does."""

    def __init__(self, server: Server, *, concurrency: int, drivers: int) -> None:
        super().__init__(INSTALLATION, charged=lambda _: False, later=lambda _, call, uid: call(uid), random=lambda: 0.5)
        self.bench, self.server, self.drivers = Bench(opened=False, quota=self), server, drivers
        self.bench.queue(concurrency=concurrency or None)
        self.bench.turns.open()
        self.concurrency = concurrency
        self.tasks: dict[str, Task] = {}
        self.wishes: dict[str, Wish] = {}
        self.running: dict[str, str] = {}
        self.waiting: dict[str, None] = {}
        """Tasks that have asked and have no turn, whether they are in line or on their way back to it."""
        self.to_do: dict[str, None] = {}
        self.posts = self.refusals = 0

    def grant(self, uid: str, wish: Wish, class_: str) -> None:
        mine = self.tasks[uid]
        for other, theirs in ((name, self.tasks[name]) for name in self.waiting if name != uid):
            fits_too = theirs.cpu <= mine.cpu and theirs.memory <= mine.memory and (class_ == "cpu" or theirs.either)
            assert not (fits_too and theirs.priority > mine.priority), f"{uid} has overtaken {other}"
        self.waiting.pop(uid, None)
        super().grant(uid, wish, class_)

    def put(self, task: Task) -> None:
        uid = f"t{len(self.tasks):03}"
        self.tasks[uid], self.wishes[uid] = task, task.wish()
        self.to_do[uid] = None

    def ask(self, uid: str) -> str | None:
        found = self.bench.ask(uid, self.wishes[uid], priority=self.tasks[uid].priority)
        if isinstance(found, Admitted):
            return found.device.class_
        self.waiting[uid] = None
        return None

    def round(self) -> None:
        """As many tasks as there are drivers: all ask, their POSTs are under way together, then the answers come."""
        batch = list(self.to_do)[: self.drivers]
        for uid in batch:
            del self.to_do[uid]
        given = {uid: class_ for uid in batch if uid not in self.running and (class_ := self.ask(uid)) is not None}
        for looks in range(1, LOOKS + 1):
            again: dict[str, str] = {}
            for uid, class_ in given.items():
                self.posts += 1
                said = self.server.take(self.tasks[uid].amounts(class_))
                if said is None:
                    self.running[uid] = class_
                    self.bench.turns.made(uid)
                    self.bench.hold(uid, self.wishes[uid], class_)
                    continue
                self.refusals += 1
                self.waiting[uid] = None
                self.bench.turns.refused(uid, said)
                if looks == LOOKS:
                    self.to_do[uid] = None
                elif (other := self.ask(uid)) is not None:
                    self.waiting.pop(uid, None)
                    again[uid] = other
            given = again
        assert not self.concurrency or self.bench.turns.counts("n", "q")[0] <= self.concurrency

    def end(self, index: int) -> None:
        if self.running:
            uid = list(self.running)[index % len(self.running)]
            self.server.late.update(dict(zip(RESOURCES, self.tasks[uid].amounts(self.running.pop(uid)), strict=True)))
            self.bench.turns.leave(uid)

    def step(self, seconds: float = 1.0) -> None:
        self.bench.now += seconds
        self.bench.turns.tick()
        before = self.posts
        while True:
            self.to_do.update(dict.fromkeys(uid for uid in self.bench.woken if uid not in self.running))
            self.bench.woken.clear()
            if not self.to_do:
                break
            self.round()
            assert self.posts - before <= 10 * len(self.tasks), "they wake each other without end"
        self.server.used.subtract(self.server.late)
        self.server.late.clear()


tasks = st.builds(Task, cpu=st.integers(1, 3), memory=st.integers(1, 3), priority=st.integers(0, 2), either=st.booleans())
quotas = st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([0, 0, 1, 2]))
events = st.one_of(
    tasks,
    st.tuples(st.just("end"), st.integers(0, 50)),
    st.tuples(st.just("foreign"), st.sampled_from(RESOURCES), st.integers(0, 4)),
    st.tuples(st.just("limits"), quotas),
)
pauses = st.sampled_from([0.0, 0.1, 1.0, 20.0])


@settings(max_examples=200, deadline=None)
@given(quotas, st.integers(0, 2), st.integers(1, 4), st.lists(tasks, max_size=6), st.lists(st.tuples(events, pauses), max_size=25))
def test_no_lower_priority_overtakes_and_in_the_end_all_have_run(
    limits: Amounts, concurrency: int, drivers: int, first: list[Task], rest: list[tuple[Task | tuple[object, ...], float]]
) -> None:
    here = Cluster(Server(limits), concurrency=concurrency, drivers=drivers)
    for task in first:
        here.put(task)
    here.step()
    for event, seconds in rest:
        match event:
            case Task():
                here.put(event)
            case ("end", int(index)):
                here.end(index)
            case ("foreign", str(name), int(amount)):
                here.server.foreign[name] = amount
            case ("limits", (int(cpu), int(memory), int(gpus))):
                here.server.limits = (cpu, memory, gpus)
        if seconds:
            here.step(seconds)
    here.server.foreign.clear()
    here.server.limits = (20, 20, 2)
    for _ in range(3 * len(here.tasks) + 20):
        here.step(20)
        here.end(0)

    assert (here.waiting, here.running, here.bench.turns.counts("n", "q")[:2]) == ({}, {}, (0, 0))
    assert here.posts == len(here.tasks) + here.refusals


@pytest.mark.parametrize(
    ("sizes", "tries"),
    [([(1, 1)], 1), ([(1, 2), (2, 1), (3, 3)], 1), ([(number, 200 - number) for number in range(1, 200)], 2)],
    ids=["one size", "three sizes", "all of other sizes"],
)
def test_five_hundred_that_do_not_fit_are_tried_a_few_times_a_minute(sizes: list[tuple[int, int]], tries: int) -> None:
    """`tries` are at once: those of too many sizes wait together, apart from the others."""
    here = Cluster(Server((0, 0, 0)), concurrency=0, drivers=16)
    for number in range(500):
        cpu, memory = sizes[number % len(sizes)]
        here.put(Task(cpu=cpu, memory=memory, priority=number % 3))
    for _ in range(120):
        here.step()
    first = here.posts
    assert first <= tries * (16 + 120 / 15 + 8)
    here.server.limits = (10**6, 10**6, 0)
    for _ in range(25):
        here.step()

    assert len(here.running) == 500
    assert here.posts == first + 500
