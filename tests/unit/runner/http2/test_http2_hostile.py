"""Peers that mean harm: floods end the connection with a typed error, and no bytes hang it, leak it or raise anything untyped."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.http2_server import Http2Server, Peer, Request, serving

from agenttask.runner.http2.errors import ConnectionLost, Http2Error, PeerBrokeProtocol
from agenttask.runner.session import SharedSession

Sessions = Callable[..., SharedSession]
PRIOR = "PriorKnowledge"
OK = b"\x88"  # :status 200 in HPACK's static table


def raw(frame: Frame, *flags: str) -> bytes:
    for flag in flags:
        frame.flags.add(flag)
    return frame.serialize()


def settings_flood(_stream: int) -> bytes:
    return raw(SettingsFrame(0, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 100})) * 2000


def ping_flood(_stream: int) -> bytes:
    return raw(PingFrame(0, b"12345678")) * 2000


def window_flood(_stream: int) -> bytes:
    return raw(WindowUpdateFrame(0, window_increment=1)) * 2000


def empty_data_flood(stream: int) -> bytes:
    return raw(HeadersFrame(stream, OK), "END_HEADERS") + raw(DataFrame(stream, b"")) * 2000


def rapid_reset(stream: int) -> bytes:
    return raw(RstStreamFrame(stream, error_code=8)) * 2000


def unknown_flood(_stream: int) -> bytes:
    return b"\0\0\0\xee\0\0\0\0\0" * 2000


def continuation_flood(stream: int) -> bytes:
    return raw(HeadersFrame(stream, OK)) + raw(ContinuationFrame(stream, b"")) * 200


def large_fields(stream: int) -> bytes:
    block = OK + Encoder().encode([(f"f{number}".encode(), b"~" * 2000) for number in range(50)], huffman=False)
    parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    more = [raw(ContinuationFrame(stream, part)) for part in parts[1:-1]]
    return raw(HeadersFrame(stream, parts[0])) + b"".join(more) + raw(ContinuationFrame(stream, parts[-1]), "END_HEADERS")


def huge_frame(_stream: int) -> bytes:
    return b"\xff\xff\xff\x00\0\0\0\0\x01" + b"x" * 100


def push(stream: int) -> bytes:
    return b"\0\0\x05\x05\x04" + stream.to_bytes(4, "big") + b"\0\0\0\x02" + OK


def informational_flood(stream: int) -> bytes:
    return raw(HeadersFrame(stream, b"\x08\x03103"), "END_HEADERS") * 100


ATTACKS = [
    settings_flood,
    ping_flood,
    window_flood,
    empty_data_flood,
    rapid_reset,
    unknown_flood,
    continuation_flood,
    large_fields,
    huge_frame,
    push,
    informational_flood,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_an_attack_ends_with_a_typed_error_and_the_next_request_works(sessions: Sessions, attack: Callable[[int], bytes]) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if request.path == "/attacked":
            request.peer.raw(attack(request.stream))
        else:
            await request.answer()

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(Http2Error):
            async with session.post(server.url + "/attacked", data=b"x") as response:
                await response.read()
        async with session.get(server.url + "/next") as response:
            assert await response.text() == "ok"


async def test_a_servers_huge_compression_table_is_not_filled(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.settings = {SettingCodes.HEADER_TABLE_SIZE: 1 << 30}

    async with serving(prepare=prepare) as server:
        shared = sessions()
        async with shared.of(mode=PRIOR).get(server.url) as response:
            assert await response.text() == "ok"
        [connection] = shared._connector.pool._homes  # type: ignore[union-attr]
        assert connection.framing.encoder.header_table_size == 4096


async def test_a_server_that_allows_no_stream_is_waited_for(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 0}

    async with serving(prepare=prepare) as server:
        session = sessions(connections_per_origin=1).of(mode=PRIOR)
        task = asyncio.create_task(session.get(server.url).__aenter__())
        await server.seen.until(lambda seen: seen.connections == 1)
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            async with session.get(server.url, timeout=aiohttp.ClientTimeout(connect=0.1)):
                pass
        peer = server.peers[0]
        peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        peer.flush()
        async with await task as response:
            assert await response.text() == "ok"
        assert server.seen.connections == 1


async def test_a_server_that_answers_http1_to_prior_knowledge_is_told_apart(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(prepare=prepare) as server:
        with pytest.raises(PeerBrokeProtocol, match="does not keep to HTTP/2"):
            async with sessions().of(mode=PRIOR).get(server.url):
                pass


# ---- fuzz

ANSWER = (
    raw(SettingsFrame(0, settings={}))
    + raw(HeadersFrame(1, OK + b"\x0f\x0d\x015"), "END_HEADERS")
    + raw(DataFrame(1, b"hello"), "END_STREAM")
    + raw(PingFrame(0, b"12345678"))
)


async def throw(answer: bytes, cut: int) -> None:
    """One request to a server that sends these bytes in pieces and hangs up."""

    def accepted(peer: Peer) -> None:
        async def send() -> None:
            peer.raw(raw(SettingsFrame(0, settings={})))
            await asyncio.sleep(0)
            for start in range(0, len(answer), cut):
                peer.raw(answer[start : start + cut])
                await asyncio.sleep(0)
            peer.transport.close()

        peer.tasks.add(asyncio.create_task(send()))

    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = accepted

    async with serving(prepare=prepare) as server, asyncio.timeout(20):
        shared = SharedSession()
        try:
            async with shared.of(mode=PRIOR).post(server.url, data=b"x") as response:
                assert len(await response.read()) < 1_000_000
        except aiohttp.ClientError:
            pass
        finally:
            await shared.aclose()
        await asyncio.gather(*server.peers[0].tasks, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
mutations = st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(0, 255)), min_size=1, max_size=4)
frames = st.builds(
    lambda kind, flags, stream, body: len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body,
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 2**31 - 1]),
    st.binary(max_size=40),
)


@FUZZ
@given(answer=st.binary(max_size=300), cut=st.integers(1, 300))
def test_random_bytes_are_an_ordinary_error(answer: bytes, cut: int) -> None:
    asyncio.run(throw(answer, cut))


@FUZZ
@given(changes=mutations, cut=st.integers(1, 60))
def test_a_mutated_answer_is_an_answer_or_an_ordinary_error(changes: list[tuple[int, int]], cut: int) -> None:
    answer = bytearray(ANSWER)
    for position, value in changes:
        answer[position] = value
    asyncio.run(throw(bytes(answer), cut))


@FUZZ
@given(parts=st.lists(frames, min_size=1, max_size=8), cut=st.integers(1, 200))
def test_random_frames_are_an_ordinary_error(parts: list[bytes], cut: int) -> None:
    asyncio.run(throw(b"".join(parts), cut))


async def test_whatever_a_parser_raises_ends_one_connection_with_a_typed_error(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_connection: object, _events: object) -> None:
        raise ValueError("a bug in a parser")

    async with serving() as server:
        session = sessions().of(mode=PRIOR)
        with monkeypatch.context() as patch:
            patch.setattr("agenttask.runner.http2.connection.receive", broken)
            with pytest.raises(PeerBrokeProtocol, match="ValueError: a bug in a parser"):
                async with session.get(server.url):
                    pass
        async with session.get(server.url) as response:
            assert await response.text() == "ok"


async def test_without_tls_the_handshake_of_a_gone_peer_is_a_lost_connection(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.transport.abort()

    async with serving(prepare=prepare) as server:
        with pytest.raises(ConnectionLost):
            async with sessions().of(mode=PRIOR).post(server.url, data=b"x"):
                pass
