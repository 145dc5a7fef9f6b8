"""How the sessions behave when things go wrong: each row of the fault table, and what else can end a request or a connection."""

import asyncio
import time
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import web
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from tests.fakes.http2_server import Authority, Http2Server, Request, say_ok, serving

from agenttask.runner.http2.errors import ConnectionLost, NotHttp2, PeerUnresponsive, StreamRefused, StreamReset
from agenttask.runner.session import SharedSession

Sessions = Callable[..., SharedSession]
PRIOR = "PriorKnowledge"
ON_CANCEL = int(ErrorCodes.CANCEL)


async def ask(session: aiohttp.ClientSession, url: str, seconds: float = 60) -> str:
    async with session.post(url, data=b"{}", timeout=aiohttp.ClientTimeout(total=seconds)) as response:
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


# ---- the fault table


@pytest.mark.parametrize("pending", [1, 2, 5, 20])
async def test_a_quick_answer_does_not_wait_for_slow_ones_on_its_connection(sessions: Sessions, pending: int) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions().of(mode=PRIOR)
        slow = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(pending)]
        await server.seen.until(lambda seen: seen.requests == pending)
        assert await ask(session, server.url + "/quick") == "/quick"
        assert not any(task.done() for task in slow)
        gate.open.set()
        assert await asyncio.gather(*slow) == ["/slow"] * pending
        assert server.seen.connections == 1


async def test_a_request_that_times_out_harms_no_sibling(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions().of(mode=PRIOR)
        siblings = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(10)]
        await server.seen.until(lambda seen: seen.requests == 10)
        with pytest.raises(TimeoutError):
            await ask(session, server.url + "/slow", 0.2)
        await server.seen.until(lambda seen: seen.resets == [ON_CANCEL])
        gate.open.set()
        assert await asyncio.gather(*siblings) == ["/slow"] * 10
        assert server.seen.connections == 1


async def test_a_graceful_goaway_every_50_requests_fails_none_of_400(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if request.stream == 99:
            request.peer.goaway(last=99)
        if request.stream <= 99:  # a server that said goodbye answers nothing newer
            await request.answer()

    def prepare(server: Http2Server) -> None:
        server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 20}

    async with serving(script, prepare=prepare) as server:
        session = sessions(connections_per_origin=1).of(mode=PRIOR)
        left = iter(range(400))

        async def worker() -> list[str]:
            return [await ask(session, f"{server.url}/{number}") for number in left]

        answers = await asyncio.gather(*(worker() for _ in range(20)))
        assert sum(map(len, answers)) == 400
        assert server.seen.connections >= 8


async def test_a_drain_notice_lets_all_requests_on_their_way_end_and_later_ones_dial_anew(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions().of(mode=PRIOR)
        before = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(5)]
        await server.seen.until(lambda seen: seen.requests == 5)
        server.peers[0].goaway(last=2**31 - 1)
        server.peers[0].goaway()
        gate.open.set()
        assert await asyncio.gather(*before) == ["/slow"] * 5
        assert await ask(session, server.url + "/new") == "/new"
        await server.seen.until(lambda seen: seen.connections == 2 and seen.closed == 1)


async def test_each_cancelled_request_is_reset_at_the_server_and_siblings_live(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(suspect_seconds=600).of(mode=PRIOR)
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(20)]
        await server.seen.until(lambda seen: seen.requests == 20)
        for task in tasks[:10]:
            task.cancel()
        await server.seen.until(lambda seen: seen.resets == [ON_CANCEL] * 10)
        gate.open.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in ended] == [True] * 10 + [False] * 10
        assert await ask(session, server.url + "/next") == "/next"
        assert server.seen.connections == 1


async def test_a_server_that_allows_10_streams_gets_4_connections_for_40_requests(sessions: Sessions) -> None:
    gate = Gate()

    def prepare(server: Http2Server) -> None:
        server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 10}

    async with serving(gate, prepare=prepare) as server:
        session = sessions().of(mode=PRIOR)
        await ask(session, server.url + "/first")
        tasks = [asyncio.create_task(ask(session, server.url + "/slow")) for _ in range(40)]
        await server.seen.until(lambda seen: seen.requests == 41)
        assert (server.seen.connections, server.seen.peak_streams) == (4, 10)
        gate.open.set()
        assert await asyncio.gather(*tasks) == ["/slow"] * 40


async def test_a_server_that_speaks_http1_only_is_left_to_aiohttp_and_remembered(
    sessions: Sessions, authority: Authority, ca_file: str
) -> None:
    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="one")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context("http/1.1"))
    await site.start()
    url = f"https://localhost:{runner.addresses[0][1]}"
    shared = sessions()
    session = shared.of(ca_file=ca_file)
    for _ in range(3):
        async with session.get(url) as response:
            assert (response.version, await response.text()) == (aiohttp.HttpVersion11, "one")
    assert {use.protocol for use in shared.use().values()} == {"http/1.1"}
    assert shared._connector is not None
    assert shared._connector.pool.dialled == 0
    with pytest.raises(NotHttp2, match="in place of HTTP/2"):
        await ask(shared.of(mode=PRIOR, ca_file=ca_file), url)
    await runner.cleanup()


async def test_a_frozen_peer_fails_requests_with_a_typed_error_and_new_ones_dial_anew(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(ping_after_seconds=0.1, ping_seconds=0.2).of(mode=PRIOR)
        task = asyncio.create_task(ask(session, server.url + "/slow"))
        await server.seen.until(lambda seen: seen.requests == 1)
        server.peers[0].freeze()
        with pytest.raises(PeerUnresponsive, match=r"no sign of life within 0\.2 s") as raised:
            await task
        assert isinstance(raised.value, (aiohttp.ServerTimeoutError, aiohttp.ClientConnectionError))
        assert await ask(session, server.url + "/new") == "/new"
        assert server.seen.connections == 2


async def test_a_connection_on_which_a_request_timed_out_in_silence_takes_no_new_ones(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(suspect_seconds=0.1).of(mode=PRIOR)
        await ask(session, server.url + "/first")
        server.peers[0].freeze()
        with pytest.raises(TimeoutError):
            await ask(session, server.url + "/never", 0.5)
        assert await ask(session, server.url + "/new") == "/new"
        assert server.seen.connections == 2


async def test_a_peer_under_suspicion_that_answers_is_used_again(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        shared = sessions(suspect_seconds=0.1)
        session = shared.of(mode=PRIOR)
        with pytest.raises(TimeoutError):
            await ask(session, server.url + "/slow", 0.5)
        await server.seen.until(lambda seen: seen.resets == [ON_CANCEL])
        [connection] = shared._connector.pool._homes  # type: ignore[union-attr]
        async with asyncio.timeout(30):
            while connection.live.suspect:  # noqa: ASYNC110  # nothing tells when a PING was answered
                await asyncio.sleep(0.01)
        assert await ask(session, server.url + "/next") == "/next"
        assert server.seen.connections == 1


async def test_pings_keep_a_connection_on_which_a_slow_answer_is_due(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(ping_after_seconds=0.05, ping_seconds=30).of(mode=PRIOR)
        task = asyncio.create_task(ask(session, server.url + "/slow"))
        await server.seen.until(lambda seen: seen.requests == 1)
        await asyncio.sleep(0.3)
        gate.open.set()
        assert await task == "/slow"


async def test_a_loop_that_stood_still_is_not_taken_for_a_silent_peer(sessions: Sessions) -> None:
    gate = Gate()
    async with serving(gate) as server:
        session = sessions(ping_after_seconds=0.05, ping_seconds=0.1).of(mode=PRIOR)
        task = asyncio.create_task(ask(session, server.url + "/slow"))
        await server.seen.until(lambda seen: seen.requests == 1)
        for _ in range(5):
            await asyncio.sleep(0.06)
            time.sleep(0.3)  # noqa: ASYNC251  # on purpose: a step that hogs the loop
        gate.open.set()
        assert await task == "/slow"
        assert server.seen.connections == 1


# ---- refused, reset, lost


async def test_a_refused_stream_is_sent_again(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if request.peer.served < 4:
            request.refuse()
        else:
            await request.answer(bytes(request.body))

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        assert await ask(session, server.url) == "{}"
        assert server.seen.requests == 4
        assert server.seen.connections == 1


async def test_a_server_that_refuses_for_ever_is_given_up(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.refuse()

    async with serving(script) as server:
        with pytest.raises(StreamRefused, match="refused the stream unprocessed"):
            await ask(sessions(sends=5).of(mode=PRIOR), server.url)
        assert server.seen.requests == 5


async def test_a_refused_request_whose_body_cannot_be_read_again_is_an_error(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        request.refuse()

    async def body():
        yield b"once"

    async with serving(script) as server:
        with pytest.raises(StreamRefused):
            async with sessions().of(mode=PRIOR).post(server.url, data=body()):
                pass
        assert server.seen.requests == 1


async def test_a_reset_names_its_code_and_ends_one_request(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if request.path == "/bad":
            request.refuse(ErrorCodes.INTERNAL_ERROR)
        else:
            await request.answer()

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(StreamReset, match="INTERNAL_ERROR"):
            await ask(session, server.url + "/bad")
        assert await ask(session, server.url + "/good") == "ok"
        assert server.seen.connections == 1


async def test_a_reset_in_the_middle_of_a_body_reaches_its_reader(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.fields_out()
        await request.data_out(b"half")
        await request.complete.wait()
        request.refuse(ErrorCodes.INTERNAL_ERROR)

    async with serving(script) as server, sessions().of(mode=PRIOR).get(server.url) as response:
        with pytest.raises(aiohttp.ClientPayloadError, match="INTERNAL_ERROR"):
            await response.read()


async def test_a_connection_that_is_lost_fails_a_post_once_and_a_get_is_tried_again(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if len(request.peer.server.peers) == 1:
            request.peer.transport.abort()
        else:
            await request.answer()

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(ConnectionLost) as raised:
            await ask(session, server.url)
        assert isinstance(raised.value, aiohttp.ServerDisconnectedError)
        assert server.seen.requests == 1
    async with serving(script) as server:
        async with session.get(server.url) as response:
            assert await response.text() == "ok"
        assert server.seen.connections == 2


async def test_a_goaway_with_an_error_sends_the_unprocessed_again_and_fails_the_others(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if len(request.peer.server.peers) == 1:
            if request.peer.served == 2:
                request.peer.goaway(last=1, code=ErrorCodes.INTERNAL_ERROR)
        else:
            await request.answer()

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        first = asyncio.create_task(ask(session, server.url + "/1"))
        await server.seen.until(lambda seen: seen.requests == 1)
        assert await ask(session, server.url + "/2") == "ok"
        with pytest.raises(ConnectionLost, match="INTERNAL_ERROR"):
            await first


async def test_a_server_that_says_nothing_is_a_connection_time_out(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False

    async with serving(prepare=prepare) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            async with session.get(server.url, timeout=aiohttp.ClientTimeout(connect=0.1)):
                pass
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            async with sessions(connect_seconds=0.1).of(mode=PRIOR).get(server.url):
                pass


async def test_one_short_connect_time_out_does_not_end_the_dial_of_others(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False

    async with serving(prepare=prepare) as server:
        session = sessions().of(mode=PRIOR)
        patient = asyncio.create_task(ask(session, server.url))
        for times in (aiohttp.ClientTimeout(connect=0.1), aiohttp.ClientTimeout(sock_connect=0.1)):
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                async with session.get(server.url, timeout=times):
                    pass
        await server.seen.until(lambda seen: seen.connections == 1)
        server.peers[0].greet()
        assert await patient == "ok"
        assert server.seen.connections == 1


async def test_a_dial_for_which_nobody_waits_is_given_up(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False

    async with serving(prepare=prepare) as server:
        shared = sessions()
        session = shared.of(mode=PRIOR)
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            async with session.get(server.url, timeout=aiohttp.ClientTimeout(sock_connect=0.1)):
                pass
        await server.seen.until(lambda seen: seen.closed == 1)
        server.greets = True
        assert await ask(session, server.url) == "ok"
        assert server.seen.connections == 2


async def test_a_refused_connection_is_aiohttps_own_error(sessions: Sessions) -> None:
    async with serving() as server:
        url = server.url
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(sessions().of(mode=PRIOR), url)


async def test_a_certificate_that_is_not_trusted_is_aiohttps_own_error(sessions: Sessions, authority: Authority) -> None:
    async with serving(tls=authority.server_context("h2")) as server:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(sessions()(), server.url)


async def test_sock_read_ends_one_stream_and_the_server_is_told(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.fields_out()
        await request.data_out(b"half")
        await request.reset.wait()

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        async with session.get(server.url, timeout=aiohttp.ClientTimeout(sock_read=0.2)) as response:
            with pytest.raises(aiohttp.SocketTimeoutError):
                await response.read()
        await server.seen.until(lambda seen: seen.resets == [ON_CANCEL])

    async def never(request: Request) -> None:
        await request.reset.wait()

    async with serving(never) as server:
        with pytest.raises(aiohttp.SocketTimeoutError):
            async with session.get(server.url, timeout=aiohttp.ClientTimeout(sock_read=0.2)):
                pass


async def test_closing_the_session_ends_requests_and_says_goodbye(sessions: Sessions, authority: Authority, ca_file: str) -> None:
    async def never(request: Request) -> None:
        await request.reset.wait()

    async with serving(never, tls=authority.server_context("h2")) as server:
        shared = sessions()
        task = asyncio.create_task(ask(shared.of(ca_file=ca_file), server.url))
        await server.seen.until(lambda seen: seen.requests == 1)
        await shared.aclose()
        with pytest.raises(ConnectionLost, match="was closed"):
            await task
        await server.seen.until(lambda seen: seen.closed == 1)


async def test_closing_while_a_dial_is_under_way_ends_it(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False

    async with serving(say_ok, prepare=prepare) as server:
        shared = sessions()
        task = asyncio.create_task(ask(shared.of(mode=PRIOR), server.url))
        await server.seen.until(lambda seen: seen.connections == 1)
        await shared.aclose()
        with pytest.raises(aiohttp.ClientConnectionError):
            await task
        await server.seen.until(lambda seen: seen.closed == 1)
