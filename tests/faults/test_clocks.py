"""F10 and nodes: clocks that are ten minutes off, of nodes and of replicas. The API server's is the one that is right."""

import asyncio
import datetime as dt
import time
from itertools import pairwise

import pytest

from tests.fakes.kubelet import FakePod, said
from tests.faults.arena import Arena, Open, Script
from tests.faults.checker import End
from tests.faults.control_plane import OPERATORS
from tests.faults.lives import SUCCEEDED, ends, live
from tests.faults.soak import SOAK

TEN_MINUTES = 600.0
LONG = 300
"""Seconds: longer than a test takes on a busy machine, and over long since by a clock that is ten minutes ahead."""
LEASE = 10
SOON = {"backoff": {"initialSeconds": 1}}
TWICE = End(phase="Succeeded", reason="Succeeded", output="done", pods=2)
LATE = End(phase="Failed", reason="DeadlineExceeded")


async def _ends_when_seen(pod: FakePod) -> None:
    await pod.start()
    await pod.end(said(pod.attempt))


async def _never_ends(pod: FakePod) -> None:
    await pod.start()


async def _is_evicted(pod: FakePod) -> None:
    await pod.start()
    if pod.attempt == 1:
        await pod.evicted()
    else:
        await pod.end(said(pod.attempt))


def _on_a_node(clock: float, script: Script) -> Script:
    async def there(pod: FakePod) -> None:
        pod.clock = clock
        await script(pod)

    return there


async def test_a_nodes_clock_is_ten_minutes_off(run: Open) -> None:
    """Ahead and behind: tasks end as on any other node, deadlines hold, and the times in status are in order."""
    async with run() as (here, _, _):
        expected: dict[str, End] = {}
        for word, clock in (("ahead", TEN_MINUTES), ("behind", -TEN_MINUTES)):
            await here.create(f"fine-{word}", _on_a_node(clock, _ends_when_seen), activeDeadlineSeconds=60)
            await here.create(f"late-{word}", _on_a_node(clock, _never_ends), activeDeadlineSeconds=1)
            await here.create(f"evicted-{word}", _on_a_node(clock, _is_evicted), retry=SOON)
            expected |= {f"fine-{word}": SUCCEEDED, f"late-{word}": LATE, f"evicted-{word}": TWICE}
        await here.judge(expected)
        in_order(here, *expected)
        for name in expected:
            status = here.recorder.status(name)
            assert 0 <= status.get("activeSeconds", 0) < 60, (name, status)


@pytest.mark.parametrize("first", [TEN_MINUTES, -TEN_MINUTES] if SOAK else [TEN_MINUTES])
async def test_two_replicas_whose_clocks_are_twenty_minutes_apart(run: Open, first: float) -> None:
    """One writes as long as it lives; when it is killed the other waits for its lease no shorter than ever, and no task has two pods."""
    async with run(lease=LEASE, clock=first) as (here, _, _):
        second, seen_of_second, _ = await here.add_replica(LEASE, clock=-first)
        finish = asyncio.Event()

        async def when_told(pod: FakePod) -> None:
            await pod.start()
            await finish.wait()
            await pod.end(said(pod.attempt))

        await here.create("runs", when_told)
        await live(here, "succeed", "fail")
        await here.recorder.until(lambda: here.recorder.pods("runs"))
        await asyncio.sleep(LEASE + 1)
        assert [one.key for one in seen_of_second.seen if one.mutating] == [], "a lease is not taken from who renews it"
        assert abs(await renewed(here) - time.time() - first) < 60, "its clock is as wrong as it should be"
        lease_name = (await here.lease() or {})["metadata"]["name"]
        await here.create("follows", when_told)
        await here.recorder.until(lambda: here.recorder.pods("follows"))
        killed = dt.datetime.now(dt.UTC)
        await here.controller.stop()
        await second.ready()
        took = (dt.datetime.now(dt.UTC) - killed).total_seconds()
        finish.set()
        await live(here, "succeed", "fail", suffix="-2")
        ended = ends("succeed", "fail") | ends("succeed", "fail", suffix="-2")
        await here.judge(ended | {"runs": SUCCEEDED, "follows": SUCCEEDED})
        assert abs(await renewed(here) - time.time() + first) < 60
        assert took < LEASE + 60
        renewals = sorted(one.at for one in here.writes(OPERATORS) if (one.plural, one.name, one.code) == ("leases", lease_name, 200))
        assert max((later - earlier).total_seconds() for earlier, later in pairwise(renewals) if later > killed) >= LEASE
        assert second.exits == []


@pytest.mark.parametrize("ahead", [TEN_MINUTES, -TEN_MINUTES])
async def test_the_leaders_own_clock_is_ten_minutes_off(run: Open, ahead: float) -> None:
    """It goes by the API server's: deadlines are held on time, what is finished lives as long as it should, and times are in order."""
    async with run(clock=ahead) as (here, _, _):
        loop = asyncio.get_running_loop()
        began = loop.time()
        longer = {"activeDeadlineSeconds": LONG, "pendingDeadlineSeconds": LONG, "ttlSecondsAfterFinished": LONG}
        await here.create("fine", _ends_when_seen, **longer)
        await here.create("late", _never_ends, activeDeadlineSeconds=2)
        await here.create("never", steps=[{"name": "ask", "chat": {"model": "nowhere", "prompt": "hi"}}], pendingDeadlineSeconds=2)
        await here.create("brief", _ends_when_seen, ttlSecondsAfterFinished=1)
        expected = {
            "fine": SUCCEEDED,
            "late": LATE,
            "never": End(phase="Failed", reason="PendingDeadlineExceeded", pods=0),
            "brief": End(phase="Succeeded", reason="Succeeded", gone=True),
        }
        await here.judge(expected)
        assert loop.time() - began < LONG
        in_order(here, "fine", "late")
        assert "API server's, whose time is taken for deadlines" in here.controller.log


def in_order(here: Arena, *names: str) -> None:
    """The times in these tasks' statuses come one after another, none of them in the future."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in names:
        task = here.recorder.task(name)
        assert task is not None
        status = task["status"]
        created = task["metadata"]["creationTimestamp"]
        assert created <= status["startTime"] <= status["completionTime"] <= now, (name, status)
        assert all(created <= one["lastTransitionTime"] <= now for one in status["conditions"]), (name, status)


async def renewed(here: Arena) -> float:
    """When the lease was renewed, as its holder believes."""
    lease = await here.lease()
    assert lease is not None
    return dt.datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
