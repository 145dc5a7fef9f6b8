"""What refusals teach, against an API server with a quota that is late to know of a pod's end: order, number of tries, nobody forgotten."""

from collections import Counter
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttask.domain.holdings import Holding, Holdings
from agenttask.domain.queueing import Line, Wish
from agenttask.domain.quota import MOST_SIZES, WIDE, Asked, Quotas, Refusal
from agenttask.domain.quota_message import read

NOW = 1_800_000_000.0
N = "n"
FULL = (
    'pods "a-1" is forbidden: exceeded quota: few, requested: pods=1,requests.memory=2Gi, '
    "used: pods=5,requests.memory=9Gi, limited: pods=5,requests.memory=10Gi"
)


def asked(memory: int = 1, *, pods: int = 1, scope: str = "") -> Asked:
    return Asked(scope=scope, size=memory, amounts={"pods": Decimal(pods), "requests.memory": Decimal(memory)})


def refusal(memory: int = 1, *, left: int = 0) -> Refusal:
    return Refusal(message="full", quota="few", requested={"requests.memory": Decimal(memory)}, left={"requests.memory": Decimal(left)})


def quotas(delay: float = 10.0) -> Quotas:
    return Quotas(lambda failures: delay * failures)


def test_the_words_of_a_quota_are_numbers() -> None:
    found = read(FULL)

    assert found.message.startswith("exceeded quota: few, requested: pods=1")
    assert (found.quota, found.left) == ("few", {"pods": 0, "requests.memory": Decimal(2**30)})
    assert found.requested == {"pods": 1, "requests.memory": Decimal(2**31)}


@pytest.mark.parametrize(
    "message",
    [
        'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace "n"',
        "exceeded quota: small, requested: pods=1",
        "exceeded quota: small, requested: pods=many, used: pods=1, limited: pods=1",
        "exceeded quota: small, requested: , used: , limited: ",
    ],
)
def test_words_without_numbers_hold_for_every_pod(message: str) -> None:
    found, here = read(message), quotas()
    here.grant(N, "a", asked())
    here.refused(N, "a", asked(), found, NOW)

    assert (found.message, found.left) == (message, {})
    assert here.obstacle(N, asked(1), NOW) == message


@settings(max_examples=200)
@given(st.text(max_size=80) | st.from_regex(r"exceeded quota: [^ ]+, requested: [^ ]+, used: [^ ]+, limited: [^ ]+"))
def test_whatever_the_server_says_is_read(message: str) -> None:
    assert isinstance(read(message), Refusal)


def test_who_would_not_fit_is_not_tried_and_who_would_goes_on() -> None:
    here = quotas()
    here.refused(N, "a", asked(4), refusal(4, left=3), NOW)

    assert [here.obstacle(N, asked(size), NOW) for size in (3, 4, 5)] == [None, "full", "full"]
    assert here.obstacle(N, asked(4, scope="other"), NOW) is None
    assert here.obstacle("another", asked(4), NOW) is None
    here.grant(N, "b", asked(2))
    assert here.obstacle(N, asked(2), NOW) == "full"
    here.freed(N, asked(1))
    assert here.obstacle(N, asked(2), NOW) is None


def test_after_a_while_one_is_tried_and_while_that_is_taken_ever_more_at_once() -> None:
    here, at_once = quotas(), list[int]()
    here.refused(N, "a", asked(), refusal(), NOW)
    assert here.obstacle(N, asked(), NOW + 9.9) == "full"
    for number in range(6):
        tried = [f"{number}-{one}" for one in range(64)]
        granted = []
        for uid in tried:
            if here.obstacle(N, asked(), NOW + 10) is None:
                here.grant(N, uid, asked())
                granted.append(uid)
        at_once.append(len(granted))
        for uid in granted:
            here.made(N, uid, NOW + 10)

    assert at_once == [1, 2, 4, 8, 16, WIDE]
    assert N not in here


def test_the_first_refusal_ends_the_tries() -> None:
    here = quotas()
    here.refused(N, "a", asked(), refusal(), NOW)
    here.grant(N, "a", asked())
    here.made(N, "a", NOW + 10)
    for uid in "bc":
        assert here.obstacle(N, asked(), NOW + 10) is None
        here.grant(N, uid, asked())
    here.refused(N, "b", asked(), refusal(), NOW + 10)
    here.refused(N, "c", asked(), refusal(), NOW + 10)

    assert here.obstacle(N, asked(), NOW + 19.9) == "full"
    assert here.due(NOW + 20) == [N]


def test_refusals_in_a_row_are_ever_rarer_and_those_that_were_under_way_count_once() -> None:
    here = quotas()
    for uid in "abc":
        here.refused(N, uid, asked(), refusal(), NOW)
    assert here.due(NOW + 9.9) == []
    assert here.due(NOW + 10) == [N]
    here.grant(N, "a", asked())
    assert here.due(NOW + 10) == []
    here.refused(N, "a", asked(), refusal(), NOW + 10)

    assert here.due(NOW + 29.9) == []
    assert here.due(NOW + 30) == [N]


def test_a_pod_that_fits_as_far_as_we_know_and_is_refused_is_tried_again_soon() -> None:
    """The watch tells of a pod's end before the quota's controller has counted it."""
    here = quotas()
    for times in range(4):
        here.refused(N, "a", asked(), refusal(), NOW + 100 * times)
    assert here.due(NOW + 330) == []
    here.freed(N, asked())
    here.grant(N, "a", asked())
    here.refused(N, "a", asked(), refusal(), NOW + 301)

    assert here.due(NOW + 311) == [N]
    here.grant(N, "a", asked())
    assert not here.made(N, "a", NOW + 311)  # no sign of more room than we knew of
    assert here.obstacle(N, asked(), NOW + 320) == "full"


def test_what_pods_of_a_size_have_besides_what_we_know_is_learned() -> None:
    """A LimitRange adds limits, a RuntimeClass an overhead."""
    here = quotas()
    more = {"limits.cpu": Decimal(2), "requests.memory": Decimal(5), "requests.example.com/gpu": Decimal(1)}
    here.refused(N, "a", asked(1), Refusal(message="full", quota="few", requested=more, left=dict.fromkeys(more, Decimal(0))), NOW)
    here.freed(N, asked(1))

    assert here.obstacle(N, asked(1), NOW) is None
    assert here.obstacle(N, asked(2), NOW) is None
    here.grant(N, "b", asked(2))
    assert here.obstacle(N, asked(1), NOW) == "full"


def test_what_an_earlier_refusal_named_still_counts() -> None:
    """A refusal names only what is exceeded: of two pods, each too large in something else, neither fits because of the other."""
    here, posts = quotas(), 0
    heavy = {
        "cpu": Asked(size="c", amounts={"cpu": Decimal(4), "memory": Decimal(1)}),
        "memory": Asked(size="m", amounts={"cpu": Decimal(1), "memory": Decimal(4)}),
    }
    for name in ["cpu", "memory"] * 10:
        if here.obstacle(N, heavy[name], NOW) is None:
            here.grant(N, name, heavy[name])
            posts += 1
            said = Refusal(message="full", quota="few", requested={name: Decimal(4)}, left={name: Decimal(2)})
            here.refused(N, name, heavy[name], said, NOW)

    assert posts == 2
    assert here.obstacle(N, Asked(size="s", amounts={"cpu": Decimal(2), "memory": Decimal(2)}), NOW) is None


def test_a_try_that_fails_forgets_the_rest_so_that_a_raised_quota_is_found_behind_one_that_is_not() -> None:
    here = quotas()
    large, small = (Asked(size=name, amounts={"cpu": Decimal(cpu), "memory": Decimal(memory)}) for name, cpu, memory in ("l19", "s81"))
    for name, asked_, uid, now in (("cpu", small, "s", NOW), ("memory", large, "l", NOW), ("memory", large, "l", NOW + 10)):
        here.grant(N, uid, asked_)
        said = Refusal(message="full", quota="few", requested={name: asked_.amounts[name]}, left={name: Decimal(2)})
        here.refused(N, uid, asked_, said, now)

    assert here.obstacle(N, small, NOW + 10) is None
    assert here.due(NOW + 29) == []
    here.grant(N, "s", small)
    said = Refusal(message="full", quota="few", requested={"cpu": Decimal(8)}, left={"cpu": Decimal(2)})
    here.refused(N, "s", small, said, NOW + 10)
    assert here.due(NOW + 29) == [], "it tells of something else than what we had reckoned on: nobody was late"


def test_a_pod_that_is_not_made_gives_back_what_it_would_have_taken() -> None:
    here = quotas()
    here.refused(N, "a", asked(4), refusal(4, left=2), NOW)
    here.grant(N, "b", asked(2))
    assert here.obstacle(N, asked(1), NOW) == "full"
    here.leave(N, "b")
    assert here.obstacle(N, asked(2), NOW) is None
    here.grant(N, "b", asked(2))
    here.made(N, "b", NOW)
    here.leave(N, "b")
    assert here.obstacle(N, asked(1), NOW) == "full"


def test_the_sizes_whose_additions_are_remembered_are_bounded() -> None:
    here = quotas()
    for number in range(2 * MOST_SIZES):
        said = Refusal(message="full", quota="few", requested={"limits.cpu": Decimal(2)}, left={"limits.cpu": Decimal(1)})
        here.refused(N, "a", Asked(size=number), said, NOW)
    (closed,) = here._closed[N].values()

    assert [*closed.learned] == [*range(MOST_SIZES, 2 * MOST_SIZES)]
    assert here.obstacle(N, Asked(size=2 * MOST_SIZES - 1), NOW) == "full"


def test_where_somebody_adds_what_we_cannot_reckon_on_the_next_try_waits_all_the_same() -> None:
    here, device = quotas(), "requests.example.com/nic"
    here.grant(N, "a", asked())
    here.refused(N, "a", asked(), Refusal(message="full", quota="few", requested={device: Decimal(1)}, left={device: Decimal(0)}), NOW)

    assert here.obstacle(N, asked(), NOW + 9.9) == "full"
    assert here.obstacle(N, asked(), NOW + 10) is None


def test_a_try_that_comes_to_nothing_leaves_its_place_to_another() -> None:
    here = quotas()
    here.refused(N, "a", asked(), refusal(), NOW)
    here.grant(N, "b", asked())
    assert here.obstacle(N, asked(), NOW + 10) == "full"
    here.leave(N, "b")
    assert here.obstacle(N, asked(), NOW + 10) is None


class Server(msgspec.Struct):
    """A namespace's quota of memory: it refuses as the API server does, and knows of an end one step late."""

    limit: int
    used: int = 0
    late: int = 0
    foreign: int = 0

    def take(self, size: int) -> Refusal | None:
        left = self.limit - self.used - self.foreign
        if size <= left:
            self.used += size
            return None
        return refusal(size, left=left)


class Controller:
    """The line, the quotas and a server, joined as the dispatcher joins them; `drivers` POSTs are on their way at once."""

    def __init__(self, server: Server, drivers: int) -> None:
        self.server, self.drivers, self.now = server, drivers, NOW
        self.quotas = Quotas(lambda failures: min(16.0, 2.0 ** (failures - 1)))
        self.line, self.held = Line(lambda *_: 0), Holdings()
        self.tasks: dict[str, tuple[int, int]] = {}
        self.given: list[str] = []
        self.running: list[str] = []
        self.posts, self.refusals = 0, Counter[float]()

    def put(self, uid: str, size: int, priority: int) -> None:
        self.tasks[uid] = (size, priority)
        self.wait(uid)

    def wait(self, uid: str) -> None:
        size, priority = self.tasks[uid]
        self.line.put(uid, Wish(namespace=N, queue="q", pod=size), priority=priority, since=NOW)

    def fits(self, wish: Wish) -> str | None:
        return "cpu" if self.quotas.obstacle(N, asked(size_of(wish)), self.now) is None else None

    def grant(self, uid: str, wish: Wish, class_: str) -> None:
        higher = [other for other in self.line if self.tasks[other][0] <= size_of(wish) and self.tasks[other][1] > self.tasks[uid][1]]
        assert not higher, "a lower priority has overtaken one that asks for no more"
        self.quotas.grant(N, uid, asked(size_of(wish)))
        self.held.add(uid, Holding(wish=wish, class_=class_))
        self.given.append(uid)

    def decide(self) -> None:
        self.line.admit(None, fits=self.fits, running=self.held.of_namespace, grant=self.grant, now=self.now)

    def post(self) -> None:
        """The drivers take what was given; what a refusal has made pointless goes back into the line."""
        batch: list[str] = []
        while self.given and len(batch) < self.drivers:
            uid = self.given.pop(0)
            size = self.tasks[uid][0]
            if N in self.quotas and not self.quotas.is_current(N, uid) and self.quotas.obstacle(N, asked(size), self.now) is not None:
                self.held.remove(uid)
                self.quotas.leave(N, uid)
                self.wait(uid)
            else:
                batch.append(uid)
        for uid in batch:
            size = self.tasks[uid][0]
            self.posts += 1
            refused = self.server.take(size)
            if refused is None:
                self.running.append(uid)
                self.quotas.made(N, uid, self.now)
            else:
                self.refusals[self.now] += 1
                self.quotas.refused(N, uid, asked(size), refused, self.now)
                self.held.remove(uid)
                self.wait(uid)

    def end(self, index: int) -> None:
        if self.running:
            uid = self.running.pop(index % len(self.running))
            self.held.remove(uid)
            self.server.late += self.tasks[uid][0]
            self.quotas.freed(N, asked(self.tasks[uid][0]))

    def step(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.decide()
        for _ in range(50):
            if not self.given:
                break
            self.post()
            self.decide()
        self.server.used -= self.server.late
        self.server.late = 0


def size_of(wish: Wish) -> int:
    assert isinstance(wish.pod, int)
    return wish.pod


events = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 4), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("foreign"), st.integers(0, 6)),
        st.tuples(st.just("raise"), st.integers(0, 12)),
        st.tuples(st.just("step"), st.sampled_from([0.1, 1.0, 20.0])),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10), st.integers(1, 4), events)
def test_no_lower_priority_overtakes_and_in_the_end_all_have_run(limit: int, drivers: int, steps: list[tuple[object, ...]]) -> None:
    here, count = Controller(Server(limit=limit), drivers), 0
    for step in steps:
        match step:
            case ("put", int(size), int(priority)):
                here.put(f"t{count:02}", size, priority)
                count += 1
            case ("end", int(index)):
                here.end(index)
            case ("foreign", int(amount)):
                here.server.foreign = amount
            case ("raise", int(most)):
                here.server.limit = most
            case ("step", float(seconds)):
                here.step(seconds)
    here.server.foreign, here.server.limit = 0, 20
    for _ in range(200):
        here.step()
        here.end(0)
        if not len(here.line) and not here.running:
            break

    assert (len(here.line), here.running, here.given) == (0, [], [])
    assert here.posts == count + sum(here.refusals.values())


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], list(range(1, 200))], ids=["one size", "three sizes", "all of other sizes"])
def test_five_hundred_that_do_not_fit_are_tried_a_few_times_a_minute(sizes: list[int]) -> None:
    here = Controller(Server(limit=0), drivers=16)
    for number in range(500):
        here.put(f"t{number:03}", sizes[number % len(sizes)], number % 3)
    for _ in range(600):
        here.step()
    first = here.posts
    assert first <= 16 + 600 / 16 + 8
    here.server.limit = 10**6
    for _ in range(20):
        here.step()

    assert len(here.running) == 500
    assert here.posts == first + 500
