"""The line against a naive one that looks at every task each time, and what it costs with ten thousand tasks."""

import gc
import time
import tracemalloc
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.domain.holdings import Holding, Holdings
from agenttask.domain.queueing import Line, Wish

NOW = 1_800_000_000.0


def wish(namespace: str = "n", queue: str = "q", device: str = "cpu", models: tuple[str, ...] = ()) -> Wish:
    return Wish(namespace=namespace, queue=queue, device=device, models=models)


class Rules(msgspec.Struct):
    """Limits of a small installation; every one may bind."""

    cap: int = 10**6
    concurrency: dict[tuple[str, str], int] = {}
    stock: dict[str, int] = {}
    classes: dict[tuple[str, str, str], int] = {}
    models: dict[tuple[str, str], int] = {}
    paused: set[tuple[str, str]] = set()
    aging: dict[tuple[str, str], int] = {}

    def fits(self, one: Wish, held: Holdings, used: Counter[str]) -> str | None:
        key = (one.namespace, one.queue)
        device = str(one.device)
        room = (
            len(held) < self.cap,
            key not in self.paused,
            held.of_queue(*key) < self.concurrency.get(key, 10**6),
            used[device] < self.stock.get(device, 10**6),
            held.of_class(*key, device) < self.classes.get((*key, device), 10**6),
            all(held.of_model(one.namespace, model) < self.models.get((one.namespace, model), 10**6) for model in one.models),
        )
        return device if all(room) else None


class Task(msgspec.Struct, frozen=True):
    uid: str
    wish: Wish
    priority: int
    since: float


class Naive:
    """The same rules, said once more in the plainest way."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.waiting: dict[str, Task] = {}
        self.turns: dict[str, int] = {}
        self.count = 0

    def next(self, held: Holdings, used: Counter[str], now: float) -> Task | None:
        fitting = [task for task in self.waiting.values() if self.rules.fits(task.wish, held, used) is not None]
        return min(fitting, key=lambda task: self._rank(task, held, now), default=None)

    def _rank(self, task: Task, held: Holdings, now: float) -> tuple[object, ...]:
        namespace = task.wish.namespace
        aging = self.rules.aging.get((namespace, task.wish.queue), 256)
        effective = task.priority + ((now - task.since) / aging if aging else 0)
        return (held.of_namespace(namespace), self.turns.get(namespace, 0), namespace, -effective, task.since, task.uid)

    def serve(self, task: Task) -> None:
        del self.waiting[task.uid]
        self.count += 1
        self.turns[task.wish.namespace] = self.count


class Pair:
    """Line and naive line, told the same; after every step they have given the same turns in the same order."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.now = rules, NOW
        self.line = Line(lambda namespace, queue: rules.aging.get((namespace, queue), 256))
        self.naive = Naive(rules)
        self.held, self.used = Holdings(), Counter[str]()
        self.mirror, self.mirrored = Holdings(), Counter[str]()

    def put(self, task: Task) -> None:
        if self.held.get(task.uid) is None:
            self.line.put(task.uid, task.wish, priority=task.priority, since=task.since)
            self.naive.waiting[task.uid] = task

    def leave(self, uid: str) -> None:
        self.line.remove(uid)
        self.naive.waiting.pop(uid, None)
        for held, used in ((self.held, self.used), (self.mirror, self.mirrored)):
            gone = held.remove(uid)
            if gone is not None:
                used[gone.class_] -= 1

    def decide(self) -> None:
        given: list[str] = []

        def grant(uid: str, one: Wish, found: str) -> None:
            given.append(uid)
            self.held.add(uid, Holding(wish=one, class_=found))
            self.used[found] += 1

        self.line.admit(
            None,
            fits=lambda one: self.rules.fits(one, self.held, self.used),
            full=lambda: len(self.held) >= self.rules.cap,
            running=self.held.of_namespace,
            grant=grant,
            now=self.now,
        )
        expected: list[str] = []
        while (task := self.naive.next(self.mirror, self.mirrored, self.now)) is not None:
            self.naive.serve(task)
            expected.append(task.uid)
            self.mirror.add(task.uid, Holding(wish=task.wish, class_=str(task.wish.device)))
            self.mirrored[str(task.wish.device)] += 1
        assert given == expected
        assert len(self.line) == len(self.naive.waiting)


NAMESPACES, QUEUES, DEVICES, MODELS = "abc", "qr", ("cpu", "gpu"), ("m", "o")
places = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(QUEUES))
small = st.integers(0, 3)
rules_ = st.builds(
    Rules,
    cap=st.integers(1, 8),
    concurrency=st.dictionaries(places, st.integers(1, 3), max_size=6),
    stock=st.dictionaries(st.sampled_from(DEVICES), small, max_size=2),
    classes=st.dictionaries(st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(QUEUES), st.sampled_from(DEVICES)), small, max_size=4),
    models=st.dictionaries(st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(MODELS)), st.integers(1, 2), max_size=4),
    paused=st.sets(places, max_size=2),
    aging=st.dictionaries(places, st.sampled_from([0, 1, 16, 256]), max_size=6),
)
wishes = st.builds(
    Wish,
    namespace=st.sampled_from(NAMESPACES),
    queue=st.sampled_from(QUEUES),
    device=st.sampled_from(DEVICES),
    models=st.sampled_from([(), ("m",), ("o",), ("m", "o")]),
)
steps_ = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 15), wishes, st.integers(-3, 3), st.integers(0, 600)),
        st.tuples(st.just("rate"), st.integers(0, 15), st.integers(-3, 3)),
        st.tuples(st.just("leave"), st.integers(0, 15)),
        st.tuples(st.just("wait"), st.integers(1, 500)),
        st.tuples(st.just("pause"), places),
        st.tuples(st.just("aging"), places, st.sampled_from([0, 1, 16, 256])),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(rules_, steps_)
def test_every_decision_is_that_of_a_naive_full_scan(rules: Rules, steps: list[tuple[object, ...]]) -> None:
    pair = Pair(rules)
    for step in steps:
        match step:
            case ("put", int(number), Wish() as one, int(priority), int(waited)):
                pair.put(Task(f"t{number:02}", one, priority, pair.now - waited))
            case ("rate", int(number), int(priority)):
                task = pair.naive.waiting.get(f"t{number:02}")
                if task is not None:
                    pair.put(msgspec.structs.replace(task, priority=priority))
            case ("leave", int(number)):
                pair.leave(f"t{number:02}")
            case ("wait", int(seconds)):
                pair.now += seconds
            case ("pause", (str(namespace), str(queue))):
                rules.paused ^= {(namespace, queue)}
            case ("aging", (str(namespace), str(queue)), int(aging)):
                rules.aging[namespace, queue] = aging
                pair.line.resort(namespace, queue)
        pair.decide()


def admitted(line: Line, places: int, *, running: Counter[str] | None = None, now: float = NOW) -> list[str]:
    """Who gets a turn, in order, while there are so many places."""
    given: list[str] = []
    counts = running if running is not None else Counter[str]()

    def grant(uid: str, one: Wish, found: bool) -> None:
        given.append(uid)
        counts[one.namespace] += 1

    line.admit(None, fits=lambda _: True if len(given) < places else None, running=lambda name: counts[name], grant=grant, now=now)
    return given


def lined(*tasks: tuple[str, Wish, int, float], aging: int = 300) -> Line:
    line = Line(lambda *_: aging)
    for uid, one, priority, since in tasks:
        line.put(uid, one, priority=priority, since=since)
    return line


def test_waiting_counts_as_priority_and_none_waits_for_ever() -> None:
    tasks = (("old", wish(), 0, NOW - 601), ("new", wish(), 2, NOW), ("urgent", wish(), 3, NOW))

    assert admitted(lined(*tasks), 3) == ["urgent", "old", "new"]
    assert admitted(lined(*tasks, aging=0), 3) == ["urgent", "new", "old"]


def test_equals_go_in_the_order_of_their_creation_and_then_of_their_uids() -> None:
    assert admitted(lined(("c", wish(), 0, NOW), ("b", wish(), 0, NOW), ("a", wish(), 0, NOW + 1)), 3) == ["b", "c", "a"]


def test_one_of_another_namespace_goes_before_the_second_of_ten_thousand() -> None:
    line = lined(*((f"a{number:05}", wish("many"), 100, NOW + number) for number in range(10_000)), ("b", wish("few"), 0, NOW + 20_000))

    assert admitted(line, 2, running=Counter(many=1))[0] == "b"


def test_namespaces_that_run_as_many_take_turns() -> None:
    tasks = [(f"{name}{number}", wish(name), 0, NOW + number) for name in ("a", "b") for number in range(3)]
    line = lined(*tasks)

    assert [admitted(line, 1) for _ in range(4)] == [["a0"], ["b0"], ["a1"], ["b1"]]


def test_a_head_that_cannot_fit_blocks_nobody() -> None:
    line = lined(("gpu", wish(device="gpu"), 9, NOW), ("cpu", wish(), 0, NOW))
    given: list[str] = []

    line.admit(
        None,
        fits=lambda one: True if one.device == "cpu" else None,
        running=lambda _: 0,
        grant=lambda uid, *_: given.append(uid),
        now=NOW,
    )

    assert (given, list(line)) == (["cpu"], ["gpu"])


def test_the_first_of_a_queue_are_told_whatever_they_wish_for() -> None:
    line = lined(("c", wish(), 0, NOW + 1), ("a", wish(device="gpu"), 5, NOW), ("b", wish(), 0, NOW), ("x", wish(queue="other"), 9, NOW))
    line.put("c", wish(), priority=9, since=NOW + 1)

    assert line.ahead("n", "q", 2) == ["c", "a"]
    assert (line.pending("n", "q"), line.oldest("n", "q"), line.oldest("n", "none")) == (3, NOW, None)
    assert line.queues() == {("n", "q"), ("n", "other")}


def test_who_has_left_leaves_nothing_behind() -> None:
    line = Line(lambda *_: 300)
    for _ in range(3):
        for number in range(1000):
            line.put(f"t{number}", wish(), priority=number % 7, since=NOW + number)
        for number in range(1000):
            line.remove(f"t{number}")
    line.put("last", wish(), priority=0, since=NOW)

    assert (len(line), list(line.wishes()), admitted(line, 9)) == (1, [wish()], ["last"])
    assert line.queues() == set()


def test_ten_thousand_waiting_tasks_cost_little() -> None:
    """Bounds far above what it takes, for busy machines; the numbers themselves are in the bench."""
    tasks = [(f"{number:036}", wish(f"n{number % 50}", models=(f"m{number % 4}",)), number % 5, NOW + number) for number in range(10_000)]
    gc.collect()
    tracemalloc.start()
    line = lined(*tasks)
    held = tracemalloc.get_traced_memory()[0] / len(tasks)
    tracemalloc.stop()
    began = time.process_time()
    given = admitted(line, 500)

    assert len(given) == 500
    assert time.process_time() - began < 0.5
    assert held < 1024
