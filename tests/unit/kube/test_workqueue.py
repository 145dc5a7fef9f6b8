"""The work queue, by example and by a state machine against a model."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agenttask.controller.backoff import Backoff
from agenttask.controller.workqueue import QueueClosed, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock=clock, random=lambda: 1.0)


def test_a_key_added_often_comes_once(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)

    assert [queue.take(), queue.take(), queue.take()] == [("a",), ("b",), ()]


def test_the_earliest_of_several_adds_wins(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", after=10)
    queue.add("a", after=5)
    queue.add("a", after=20)
    assert (queue.take(), len(queue)) == ((), 1)

    clock.now = 5
    assert queue.take() == ("a",)
    queue.done("a")
    clock.now = 100
    assert queue.take() == ()


def test_a_key_added_while_a_driver_has_it_comes_after_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.take()
    queue.add("a")
    assert (queue.take(), len(queue)) == ((), 1)

    queue.done("a")
    assert queue.take() == ("a",)


def test_a_key_added_for_later_while_a_driver_has_it_keeps_its_time(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    queue.take()
    queue.add("a", after=3)
    queue.done("a")
    assert queue.take() == ()

    clock.now = 3
    assert queue.take() == ("a",)


def test_failures_back_off_until_they_are_forgotten(queue: WorkQueue[str], clock: Clock) -> None:
    delays = []
    for _ in range(12):
        queue.add("a")
        queue.take()
        delays.append(queue.retry("a"))
        queue.done("a")
        clock.now += 60
        assert queue.take() == ("a",)
        queue.done("a")
    assert delays[:4] == [0.05, 0.1, 0.2, 0.4]
    assert delays[-1] == 30.0

    queue.forget("a")
    queue.forget("never seen")
    assert queue.retry("a") == 0.05


def test_jitter_keeps_at_least_half() -> None:
    backoff = Backoff(initial=1, maximum=8)

    assert [backoff.delay(2, lambda: 0.0), backoff.delay(2, lambda: 1.0), backoff.delay(5000, lambda: 1.0)] == [1, 2, 8]


def test_an_event_overtakes_the_back_off(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.take()
    queue.retry("a")
    queue.add("a")
    queue.done("a")

    assert queue.take() == ("a",)


def test_a_busy_key_starves_nobody(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("busy")
    queue.add("quiet")
    seen = []
    for _ in range(4):
        clock.now += 1
        (key,) = queue.take() or ("",)
        seen.append(key)
        queue.add("busy")
        queue.done(key)

    assert seen == ["busy", "quiet", "busy", "busy"]


def test_done_with_a_key_that_nobody_has_is_a_bug(queue: WorkQueue[str]) -> None:
    with pytest.raises(KeyError):
        queue.done("a")


def test_far_deadlines_overtaken_by_events_do_not_pile_up(queue: WorkQueue[str]) -> None:
    for _ in range(1000):
        queue.add("a", after=3600)
        queue.add("a")
        queue.take()
        queue.done("a")

    assert len(queue._heap) < 100
    assert len(queue) == 0


async def test_get_waits_for_an_add() -> None:
    queue: WorkQueue[str] = WorkQueue()
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")

    assert await getting == "a"


async def test_get_waits_until_a_key_is_due_and_not_longer() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    started = loop.time()
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("late", after=500)
    queue.add("soon", after=0.03)

    assert await asyncio.wait_for(getting, 60) == "soon"
    assert 0.03 <= loop.time() - started < 60


async def test_keys_are_shared_among_the_drivers() -> None:
    queue: WorkQueue[int] = WorkQueue()
    getting = [asyncio.create_task(queue.get()) for _ in range(5)]
    await asyncio.sleep(0)
    for number in range(5):
        queue.add(number)

    assert sorted(await asyncio.wait_for(asyncio.gather(*getting), 60)) == [0, 1, 2, 3, 4]


async def test_a_driver_cancelled_when_it_was_just_woken_passes_it_on() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()

    assert await asyncio.wait_for(second, 60) == "a"
    assert first.cancelled()


async def test_a_driver_cancelled_while_it_waits_leaves_the_timer_to_the_next() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a", after=0.02)
    first.cancel()

    assert await asyncio.wait_for(second, 60) == "a"


async def test_closing_ends_every_driver() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("later", after=100)

    async def drive() -> list[str]:
        return [key async for key in queue]

    drivers = [asyncio.create_task(drive()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    queue.add("too late")

    assert await asyncio.wait_for(asyncio.gather(*drivers), 60) == [[], [], []]
    assert len(queue) == 0
    with pytest.raises(QueueClosed):
        await queue.get()
    assert [key async for key in queue] == []


async def test_the_iteration_hands_out_due_keys() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    seen = []
    async for key in queue:
        seen.append(key)
        queue.done(key)
        if len(seen) == 2:
            queue.close()

    assert seen == ["a", "b"]


async def test_many_drivers_never_share_a_key_and_lose_none() -> None:
    queue: WorkQueue[int] = WorkQueue(backoff=Backoff(initial=0.001, maximum=0.005))
    held: set[int] = set()
    wanted = dict.fromkeys(range(50), 4)

    async def drive() -> None:
        async for key in queue:
            assert key not in held
            held.add(key)
            await asyncio.sleep(0.0005)
            held.discard(key)
            wanted[key] -= 1
            if wanted[key] > 0:
                queue.retry(key)
            else:
                queue.forget(key)
            queue.done(key)
            if not any(left > 0 for left in wanted.values()):
                queue.close()

    for key in wanted:
        queue.add(key)
    await asyncio.wait_for(asyncio.gather(*(drive() for _ in range(8))), 20)

    assert set(wanted.values()) == {0}


KEYS = st.sampled_from("abcd")
DELAYS = st.sampled_from([0.0, 0.0, 1.0, 5.0, 50.0])


class QueueMachine(RuleBasedStateMachine):
    """Every key added is due exactly at the earliest time asked for, with one driver at a time, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue: WorkQueue[str] = WorkQueue(clock=self.clock, random=lambda: 1.0)
        self.due: dict[str, float] = {}
        self.held: set[str] = set()

    @rule(key=KEYS, after=DELAYS)
    def add(self, key: str, after: float) -> None:
        self.queue.add(key, after=after)
        at = self.clock.now + after
        self.due[key] = min(self.due.get(key, at), at)

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        at = self.clock.now + self.queue.retry(key)
        self.due[key] = min(self.due.get(key, at), at)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)

    @rule(seconds=st.sampled_from([0.01, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def take(self) -> None:
        ready = {key: at for key, at in self.due.items() if key not in self.held and at <= self.clock.now}
        taken = self.queue.take()
        assert bool(taken) == bool(ready)
        for key in taken:
            assert ready[key] == min(ready.values())
            self.held.add(key)
            del self.due[key]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.queue.done(key)
        self.held.discard(key)

    @invariant()
    def the_length_counts_what_waits(self) -> None:
        assert len(self.queue) == len(self.due)

    def teardown(self) -> None:
        for key in list(self.held):
            self.queue.done(key)
            self.held.discard(key)
        self.clock.now += 1000
        left = set()
        while taken := self.queue.take():
            left.update(taken)
        assert left == set(self.due)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueMachine = QueueMachine.TestCase
