"""Which connection a request gets, when another is dialled, and when one is left."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from h2.settings import SettingCodes
from tests.fakes.http2_server import Authority, Http2Server, Request, serving

from agenttask.runner.http2.errors import Http2Error, StreamRefused
from agenttask.runner.http2.pool import Pool
from agenttask.runner.http2.settings import Http2Settings
from agenttask.runner.http_settings import HttpSettings
from agenttask.runner.session import OriginUse, SharedSession

Sessions = Callable[..., SharedSession]
PRIOR = "PriorKnowledge"


async def ask(session: aiohttp.ClientSession, url: str) -> str:
    async with session.post(url, data=b"x") as response:
        return await response.text()


class Gate:
    """A script whose answers to /slow wait until the test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, request: Request) -> None:
        await request.complete.wait()
        if request.path == "/slow":
            await self.open.wait()
        await request.answer(request.path.encode())


async def test_more_than_32_streams_get_a_second_connection_and_8_is_the_most(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        shared = sessions()
        session = shared.of(mode=PRIOR)
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(33)]
        await server.seen.until(lambda seen: seen.requests == 33)
        assert (server.seen.connections, server.seen.peak_streams) == (2, 32)
        tasks += [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(267)]
        await server.seen.until(lambda seen: seen.requests == 300)  # beyond 8 x 32 connections are filled to the server's limit
        assert server.seen.connections == 8
        assert [(use.connections, use.streams, use.waiting) for use in shared.use().values()] == [(8, 300, 0)]
        gate.open.set()
        await asyncio.gather(*tasks)
        assert server.seen.peak_streams < 60


async def test_several_connections_are_dialled_at_once_where_the_origin_is_known(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions().of(mode=PRIOR)
        await ask(session, server.url + "/first")
        waiting = []

        def accepted(_peer: object) -> None:
            waiting.append(server.seen.requests)

        server.accepted = accepted
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(128)]
        await server.seen.until(lambda seen: seen.requests == 129)
        assert server.seen.connections == 4
        assert len(waiting) == 3
        gate.open.set()
        await asyncio.gather(*tasks)


async def test_the_limit_per_host_is_kept_where_it_is_below_8(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(HttpSettings(connections_per_host=2, total_seconds=60)).of(mode=PRIOR)
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(90)]
        await server.seen.until(lambda seen: seen.requests == 90)
        assert server.seen.connections == 2
        gate.open.set()
        await asyncio.gather(*tasks)


async def test_requests_beyond_all_limits_wait_in_their_order(sessions: Sessions) -> None:
    order: list[str] = []

    async def script(request: Request) -> None:
        await request.complete.wait()
        order.append(request.path)
        await request.answer()

    def prepare(server: Http2Server) -> None:
        server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}

    async with serving(script, prepare=prepare) as server:
        session = sessions(HttpSettings(connections_per_host=1, total_seconds=60)).of(mode=PRIOR)
        await asyncio.gather(*(ask(session, f"{server.url}/{number}") for number in range(20)))
        assert order == [f"/{number}" for number in range(20)]
        assert server.seen.peak_streams == 1


async def test_the_limit_of_all_connections_closes_an_idle_one_or_waits(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as one, serving(gate) as two, serving(gate) as three:
        session = sessions(HttpSettings(connections=2, total_seconds=60)).of(mode=PRIOR)
        await ask(session, one.url + "/a")
        slow = [asyncio.create_task(ask(session, two.url + "/slow"))]
        await two.seen.until(lambda seen: seen.requests == 1)
        slow.append(asyncio.create_task(ask(session, three.url + "/slow")))
        await three.seen.until(lambda seen: seen.requests == 1)
        await one.seen.until(lambda seen: seen.closed == 1)
        waits = asyncio.create_task(ask(session, one.url + "/b"))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert one.seen.connections == 1
        gate.open.set()
        assert await waits == "/b"
        await asyncio.gather(*slow)


async def test_an_idle_connection_is_closed(sessions: Sessions) -> None:
    async with serving() as server:
        shared = sessions(idle_seconds=0.1)
        await ask(shared.of(mode=PRIOR), server.url)
        await server.seen.until(lambda seen: seen.closed == 1)
        assert shared.use() == {}


async def test_an_old_connection_takes_no_new_requests_and_ends_with_its_last(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(max_age_seconds=0.1).of(mode=PRIOR)
        slow = asyncio.create_task(ask(session, server.url + "/slow"))
        await server.seen.until(lambda seen: seen.requests == 1)
        await asyncio.sleep(0.3)
        assert await ask(session, server.url + "/new") == "/new"
        assert server.seen.connections == 2
        gate.open.set()
        assert await slow == "/slow"
        await server.seen.until(lambda seen: seen.closed >= 1)


async def test_a_failed_dial_leaves_requests_to_the_connections_there_are(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(connect_seconds=0.2).of(mode=PRIOR)
        await ask(session, server.url + "/first")
        server.greets = False
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(40)]
        await server.seen.until(lambda seen: seen.requests == 41)
        assert server.seen.peak_streams == 40
        gate.open.set()
        await asyncio.gather(*tasks)
        assert server.seen.connections == 2  # not another with each request


async def test_a_dial_that_takes_long_holds_up_no_request_that_another_connection_could_take(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(patience_seconds=0.1).of(mode=PRIOR)
        await ask(session, server.url + "/first")
        server.greets = False
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(40)]
        await server.seen.until(lambda seen: seen.requests == 41)
        assert server.seen.peak_streams == 40
        gate.open.set()
        await asyncio.gather(*tasks)


async def test_who_waits_and_is_cancelled_leaves_no_slot_behind(sessions: Sessions) -> None:
    async with serving() as server:
        shared = sessions()
        session = shared.of(mode=PRIOR)
        tasks = [asyncio.create_task(ask(session, server.url)) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [(use.streams, use.waiting) for use in shared.use().values()] == [(0, 0)]


async def test_a_slot_that_comes_together_with_the_cancellation_is_given_back() -> None:
    loop = asyncio.get_running_loop()
    pool: Pool[str] = Pool(Http2Settings(), loop)
    released: list[bool] = []

    class Slot:
        def release(self) -> None:
            released.append(True)

    async def dial() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(pool.acquire("origin", dial))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    [origin] = pool._origins.values()
    origin.waiting[0][0].set_result(Slot())  # type: ignore[arg-type]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released == [True]
    await pool.close()
    with pytest.raises(Http2Error, match="closed"):
        await pool.acquire("origin", dial)  # type: ignore[arg-type]


async def test_policies_share_connections_and_trust_does_not_mix(
    sessions: Sessions, authority: Authority, ca_file: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority().write(str(tmp_path_factory.mktemp("other") / "ca.pem"))
    async with serving(tls=authority.server_context("h2")) as server:
        shared = sessions()
        await ask(shared.of(ca_file=ca_file), server.url)
        await ask(shared.of(ca_file=ca_file, headers={"X": "1"}), server.url)
        assert server.seen.connections == 1
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(shared.of(ca_file=other), server.url)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(shared(), server.url)
        await ask(shared.of(ca_file=ca_file, mode=PRIOR), server.url)
        assert shared.use() == {server.url: OriginUse(protocol="h2", connections=2)}


async def test_an_origin_that_chose_http1_is_asked_again_when_that_is_long_ago(
    sessions: Sessions, authority: Authority, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = authority.server_context("http/1.1")

    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nh1")

    async with serving(tls=context, prepare=prepare) as server:
        shared = sessions(remember_seconds=600)
        session = shared.of(ca_file=ca_file)
        assert await ask(session, server.url) == "h1"
        assert shared.use() == {server.url: OriginUse(protocol="http/1.1")}
        context.set_alpn_protocols(["h2"])
        server.greets = True
        server.accepted = lambda _peer: None
        now = asyncio.get_running_loop().time() + 600
        monkeypatch.setattr(shared._connector.http1, "_clock", lambda: now)  # type: ignore[union-attr]
        assert shared.use() == {}
        assert await ask(session, server.url) == "ok"
        assert shared.use() == {server.url: OriginUse(protocol="h2", connections=1)}


async def test_many_first_requests_to_an_http1_origin_share_one_question(sessions: Sessions, authority: Authority, ca_file: str) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nh1")

    async with serving(tls=authority.server_context("http/1.1"), prepare=prepare) as server:
        dialled: list[object] = []
        trace = aiohttp.TraceConfig()

        async def note(*_what: object) -> None:
            dialled.append(None)

        trace.on_connection_create_start.append(note)
        session = sessions(traces=(trace,)).of(ca_file=ca_file)
        assert await asyncio.gather(*(ask(session, server.url) for _ in range(8))) == ["h1"] * 8
        assert len(dialled) == 9  # the question, and one for each


async def test_a_connection_whose_stream_numbers_are_used_up_is_left(sessions: Sessions) -> None:
    async with serving() as server:
        shared = sessions()
        session = shared.of(mode=PRIOR)
        await ask(session, server.url)
        [connection] = shared._connector.pool._homes  # type: ignore[union-attr]
        connection.framing.highest_outbound_stream_id = 2**31 - 1
        assert await ask(session, server.url) == "ok"
        await server.seen.until(lambda seen: seen.connections == 2 and seen.closed == 1)


async def test_a_server_that_lowers_its_limit_in_between_gets_the_request_again(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        shared = sessions(sends=3)
        session = shared.of(mode=PRIOR)
        slow = asyncio.create_task(ask(session, server.url + "/slow"))
        await server.seen.until(lambda seen: seen.requests == 1)
        [connection] = shared._connector.pool._homes  # type: ignore[union-attr]
        connection.framing.remote_settings.max_concurrent_streams = 1
        connection.framing.remote_settings.acknowledge()
        with pytest.raises(StreamRefused, match="takes no more streams"):
            await ask(session, server.url + "/more")
        connection.limit = 1
        assert await ask(session, server.url + "/more") == "/more"
        assert server.seen.connections == 2
        gate.open.set()
        assert await slow == "/slow"


async def test_who_comes_while_a_dial_is_given_up_has_one_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    pool: Pool[str] = Pool(Http2Settings(), loop)
    dials: list[asyncio.Future[None]] = []

    async def dial() -> None:  # type: ignore[return]  # it never gives a connection
        dials.append(loop.create_future())
        await dials[-1]

    with pytest.raises(TimeoutError):
        await pool.acquire("o", dial, dial_seconds=0.01)  # type: ignore[arg-type]
    second = asyncio.create_task(pool.acquire("o", dial))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    assert (len(dials), dials[0].cancelled(), second.done()) == (2, True, False)
    dials[1].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await second
    await pool.close()


async def test_a_pool_that_closes_dials_no_more() -> None:
    pool: Pool[str] = Pool(Http2Settings(), asyncio.get_running_loop())
    dials: list[int] = []

    async def dial() -> None:
        dials.append(1)
        await asyncio.sleep(3600)

    waiting = asyncio.create_task(pool.acquire("o", dial))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    await pool.close()
    with pytest.raises(Http2Error, match="closed"):
        await waiting
    assert dials == [1]
