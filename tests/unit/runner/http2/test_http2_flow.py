"""Flow control both ways: nobody is overrun, a slow reader holds up nobody else, and no body sits in memory."""

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from h2.settings import SettingCodes
from tests.fakes.http2_server import Http2Server, Request, serving

from agenttask.runner.http2.answer import Answer
from agenttask.runner.http2.stream import Stream
from agenttask.runner.session import SharedSession

Sessions = Callable[..., SharedSession]
PRIOR = "PriorKnowledge"
WINDOW = 64 * 1024


def keeps_windows(server: Http2Server) -> None:
    server.credits_bodies = False


async def test_a_server_can_send_no_more_than_windows_while_nobody_reads(sessions: Sessions) -> None:
    sent = 0

    async def script(request: Request) -> None:
        nonlocal sent
        request.fields_out()
        while True:  # a body without end
            await request.data_out(b"x" * 1000)
            sent += 1000
            request.peer.server.seen.change()

    async with serving(script) as server:
        session = sessions(stream_window=WINDOW).of(mode=PRIOR)
        async with session.get(server.url, read_bufsize=WINDOW // 2) as response:
            await server.seen.until(lambda _seen: sent >= WINDOW)
            for _ in range(50):
                await asyncio.sleep(0.005)
            unread = sent
            assert unread < 4 * WINDOW  # a window, and what aiohttp's buffer took before it was full
            await response.content.readexactly(10 * WINDOW)
            await server.seen.until(lambda _seen: sent > unread + 6 * WINDOW)
            assert sent < 15 * WINDOW
        await server.seen.until(lambda seen: len(seen.resets) == 1)


async def test_a_slow_reader_holds_up_no_other_on_its_connection(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.fields_out()
        await request.data_out(b"x" * 1_000_000, end=True)

    async with serving(script) as server:
        session = sessions(stream_window=WINDOW, connection_window=4 * WINDOW).of(mode=PRIOR)
        stalled = [await session.get(server.url, read_bufsize=1000) for _ in range(10)]
        async with session.get(server.url) as response:
            assert len(await response.read()) == 1_000_000
        assert server.seen.connections == 1
        for response in stalled:
            assert len(await response.read()) == 1_000_000
            response.close()


async def test_a_bomb_is_decompressed_no_faster_than_it_is_read(sessions: Sessions) -> None:
    bomb = gzip.compress(b"\0" * 200_000_000)

    async def script(request: Request) -> None:
        await request.answer(bomb, fields=[("content-encoding", "gzip")])

    async with serving(script) as server, sessions().of(mode=PRIOR).get(server.url) as response:
        assert len(await response.content.readexactly(1_000_000)) == 1_000_000
        assert response.content.total_bytes < 5_000_000


async def test_many_tiny_frames_while_nobody_reads_are_one_piece(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.fields_out()
        for _ in range(20_000):
            request.peer.h2.send_data(request.stream, b"x")
        request.peer.h2.end_stream(request.stream)
        request.peer.flush()

    async with serving(script) as server, sessions().of(mode=PRIOR).get(server.url, read_bufsize=100) as response:
        await server.seen.until(lambda seen: seen.requests == 1)
        assert len(await response.read()) == 20_000


async def test_sock_read_stands_still_while_the_reader_is_slow(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.fields_out()
        await request.data_out(b"x" * 1_000_000, end=True)

    async with serving(script) as server:
        session = sessions(stream_window=WINDOW).of(mode=PRIOR)
        async with session.get(server.url, read_bufsize=1000, timeout=aiohttp.ClientTimeout(sock_read=1)) as response:
            await asyncio.sleep(1.5)
            assert len(await response.read()) == 1_000_000


async def test_an_upload_goes_no_further_than_the_servers_window(sessions: Sessions) -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            yield b"x" * 10_000
            taken += 10_000

    go_on = asyncio.Event()

    async def script(request: Request) -> None:
        await go_on.wait()
        request.credit_body = True
        request.peer.h2.acknowledge_received_data(len(request.body), request.stream)
        request.peer.h2.increment_flow_control_window(1_000_000)
        request.peer.flush()
        await request.complete.wait()
        await request.answer(str(len(request.body)).encode())

    async with serving(script, prepare=keeps_windows) as server:
        session = sessions().of(mode=PRIOR)
        upload = asyncio.create_task(session.post(server.url, data=body()).__aenter__())
        await server.seen.until(lambda _seen: bool(server.requests) and len(server.requests[0].body) >= 60_000)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(server.requests[0].body) <= 65_535
        assert taken <= 80_000
        go_on.set()
        async with await upload as response:
            assert await response.text() == "1000000"


async def test_a_small_initial_window_and_its_growth_are_kept_to(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        keeps_windows(server)
        server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 10}

    async def script(request: Request) -> None:
        await asyncio.sleep(0)
        request.peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        request.peer.flush()
        await request.complete.wait()
        await request.answer(str(len(request.body)).encode())

    async with serving(script, prepare=prepare) as server, sessions().of(mode=PRIOR).post(server.url, data=b"x" * 500) as response:
        assert await response.text() == "500"


async def test_a_cancelled_upload_is_reset(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.reset.wait()

    async with serving(script, prepare=keeps_windows) as server:
        shared = sessions()
        upload = asyncio.create_task(shared.of(mode=PRIOR).post(server.url, data=b"x" * 1_000_000).__aenter__())
        await server.seen.until(lambda _seen: bool(server.requests) and len(server.requests[0].body) >= 60_000)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await server.seen.until(lambda seen: len(seen.resets) == 1)
        assert [use.streams for use in shared.use().values()] == [0]


async def test_a_socket_that_takes_no_more_holds_an_upload(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        keeps_windows(server)
        server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 100_000_000}

    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(600):
            yield b"x" * 100_000
            taken += 1

    async def script(request: Request) -> None:
        if request.path == "/large":
            request.peer.h2.increment_flow_control_window(100_000_000)
            request.peer.flush()
            request.peer.transport.pause_reading()
            await asyncio.sleep(0.3)
            request.peer.server.seen.change()
            assert taken < 600  # 60 MB are more than the sockets' buffers
            request.peer.transport.resume_reading()
        await request.complete.wait()
        await request.answer(str(len(request.body)).encode())

    async with serving(script, prepare=prepare) as server, sessions().of(mode=PRIOR).post(server.url + "/large", data=body()) as response:
        assert await response.text() == "60000000"


async def test_an_answer_that_was_read_is_gone_without_the_collector(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.answer(b"x" * 10_000)

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                async with session.post(server.url, data=b"x") as response:
                    assert len(await response.read()) == 10_000
            del response
            await asyncio.sleep(0)
            assert [each for each in gc.get_objects() if isinstance(each, (Answer, Stream))] == []
        finally:
            gc.enable()
