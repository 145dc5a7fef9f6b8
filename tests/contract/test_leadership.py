"""Election by a Lease, on the fake API server and on the real one: one leader, hand-over, expiry, and what happens to a lease."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller.fencing import Fenced
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_paths import lease_path
from agenttask.controller.leadership import Always, Leadership, NotLeading, Terms
from agenttask.controller.lease import decode
from agenttask.controller.login import Connection, find_credentials

NAME = "election"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def fake() -> AsyncIterator[tuple[KubeClient, str]]:
    async with FakeApiServer() as server, aiohttp.ClientSession() as session:
        yield KubeClient(session, server.url), "default"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[tuple[KubeClient, str]]:
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            yield await stack.enter_async_context(fake())
            return
        namespace = str(request.getfixturevalue("namespace"))
        credentials = await find_credentials(request.getfixturevalue("cluster_environment"))
        connection = await stack.enter_async_context(Connection(credentials))
        yield KubeClient(connection.session, connection.server), namespace


Make = Callable[..., Leadership]


@pytest.fixture
def make(api: tuple[KubeClient, str], monkeypatch: pytest.MonkeyPatch) -> Make:
    """A candidate. Who leads does not renew by itself while a test lasts: one that is stopped amid a write does not know what it holds."""
    monkeypatch.setattr("agenttask.controller.leadership.RENEWALS", 0.001)
    client, namespace = api

    def made(identity: str, clock: Callable[[], float]) -> Leadership:
        return Leadership(client, Terms(name=NAME, namespace=namespace, identity=identity, retry=0.01), clock=clock)

    return made


async def acquire(one: Leadership) -> "asyncio.Task[None]":
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(60):
        await one.acquired.wait()
    return running


async def stop(*running: "asyncio.Task[None]") -> None:
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_one_of_two_leads_and_the_other_takes_over_when_it_is_released(make: Make, api: tuple[KubeClient, str]) -> None:
    clock = Clock()
    first, second = make("one", clock), make("two", clock)
    leads = await acquire(first)
    waits = asyncio.create_task(second.run())
    await asyncio.sleep(0.2)
    assert (first.leading(), second.leading(), second.acquired.is_set()) == (True, False, False)

    await stop(leads)
    await first.release()
    async with asyncio.timeout(60):
        await second.acquired.wait()

    assert (first.leading(), second.leading()) == (False, True)
    spec = decode(await api[0].get(lease_path(api[1], NAME))).spec
    assert (spec.holder_identity, spec.lease_transitions) == ("two", 1)
    await stop(waits)


async def test_a_dead_leaders_lease_runs_out_by_the_candidates_own_clock(make: Make) -> None:
    leaders, candidates = Clock(), Clock()
    candidates.now = 5.0  # clocks need not agree
    first, second = make("one", leaders), make("two", candidates)
    await stop(await acquire(first))
    waits = asyncio.create_task(second.run())
    async with asyncio.timeout(60):
        while second._lease is None:  # its time begins with what it has seen # noqa: ASYNC110 - the other side is a server
            await asyncio.sleep(0.01)

    candidates.now += 14
    await asyncio.sleep(0.2)
    assert not second.leading()
    candidates.now += 2
    async with asyncio.timeout(60):
        await second.acquired.wait()
    await stop(waits)


async def test_a_paused_leader_writes_nothing_after_its_lease(make: Make, api: tuple[KubeClient, str]) -> None:
    clock = Clock()
    one = make("one", clock)
    leads = await acquire(one)
    fenced = Fenced(api[0], one.leading)
    assert fenced is not None
    assert one.leading()

    clock.now += 9.5  # of ten, and one second must be left

    assert not one.leading()
    for write in (fenced.create("/x", b""), fenced.patch("/x", b""), fenced.patch_status("/x", b""), fenced.delete("/x", uid="u")):
        with pytest.raises(NotLeading, match="does not hold the lease"):
            await write
    await stop(leads)


async def test_a_leader_that_is_ousted_learns_it_and_ends(make: Make) -> None:
    first_clock, second_clock = Clock(), Clock()
    first, second = make("one", first_clock), make("two", second_clock)
    leads = await acquire(first)
    await stop(leads)
    await second._try()
    second_clock.now += 16
    assert await second._try()

    first_clock.now += 11  # it was stopped in the meantime
    assert not await first._try()
    assert not first.leading()


async def test_a_lease_that_somebody_deleted_or_touched_is_taken_again(make: Make, api: tuple[KubeClient, str]) -> None:
    client, namespace = api
    clock = Clock()
    one = make("one", clock)
    assert await one._try()
    path = lease_path(namespace, NAME)
    await client.patch(path, b'{"metadata": {"annotations": {"seen": "yes"}}}')

    assert not await one._try()
    assert one.leading()
    assert await one._try()

    found = decode(await client.get(path))
    assert found.spec.lease_transitions == 0
    assert one.leading()


@pytest.mark.parametrize(("writer", "holder"), [("one", ""), ("two", "two")], ids=["a renewal that was broken off", "another leader"])
@pytest.mark.parametrize("known", [False, True], ids=["unheard of", "heard of by the next renewal"])
async def test_a_lease_that_changed_is_given_back_if_it_is_still_ours(
    make: Make, api: tuple[KubeClient, str], writer: str, holder: str, known: bool
) -> None:
    """A leader that stops amid a renewal does not hear of what the server has made of it."""
    client, namespace = api
    one, other_clock = make("one", Clock()), Clock()
    assert await one._try()
    other = make(writer, other_clock)
    if not await other._try():
        other_clock.now += 16
        assert await other._try()
    if known:
        assert not await one._try()

    await one.release()

    assert decode(await client.get(lease_path(namespace, NAME))).spec.holder_identity == holder


async def test_a_single_replica_needs_no_lease() -> None:
    alone = Always()
    runs = asyncio.create_task(alone.run())
    await alone.release()
    assert alone.leading()
    assert alone.acquired.is_set()
    await stop(runs)
