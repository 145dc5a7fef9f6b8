"""What aiohttp promises of a request holds over HTTP/2 too: bodies, fields, cookies, redirects, compression, traces."""

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.fakes.http2_server import Authority, Http2Server, Request, serving

from agenttask.runner.http2.errors import MalformedAnswer, NotHttp2
from agenttask.runner.http_settings import HttpSettings
from agenttask.runner.session import OriginUse, SharedSession

Sessions = Callable[..., SharedSession]
PRIOR = "PriorKnowledge"


async def echo(request: Request) -> None:
    await request.complete.wait()
    fields = [(name, value) for name, value in request.fields if not name.startswith(":")]
    body = json.dumps(
        {
            "method": request[":method"],
            "authority": request[":authority"],
            "path": request.path,
            "fields": fields,
            "body": request.body.decode(),
        }
    )
    await request.answer(body.encode(), fields=[("content-type", "application/json"), ("content-length", str(len(body)))])


async def test_a_post_over_tls_is_http2_by_alpn_with_all_its_fields(sessions: Sessions, authority: Authority, ca_file: str) -> None:
    async with serving(echo, tls=authority.server_context("h2", "http/1.1")) as server:
        shared = sessions()
        session = shared.of(ca_file=ca_file, headers={"X-Tenant": "blue"})
        async with session.post(
            server.url + "/chat?q=a%20b", json={"n": 1}, headers={"Authorization": "Bearer s", "X-Two": "2"}
        ) as response:
            seen = await response.json()
            assert (response.version, response.status, response.reason) == (aiohttp.HttpVersion(2, 0), 200, "OK")
            assert response.ok
        fields = dict(seen["fields"])
        assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/chat?q=a%20b", '{"n": 1}')
        assert seen["authority"] == f"localhost:{server.port}"
        assert (fields["x-tenant"], fields["authorization"], fields["x-two"]) == ("blue", "Bearer s", "2")
        assert (fields["content-type"], fields["content-length"]) == ("application/json", "8")
        assert "host" not in fields
        assert shared.use() == {server.url: OriginUse(protocol="h2", connections=1)}
    await shared.aclose()
    assert shared.use() == {}


async def test_an_address_with_the_name_in_host_and_server_name_is_verified_by_the_name(
    sessions: Sessions, authority: Authority, ca_file: str
) -> None:
    async with serving(echo, tls=authority.server_context("h2")) as server:
        session = sessions().of(ca_file=ca_file)
        url = f"https://127.0.0.1:{server.port}/"
        async with session.get(url, headers={"Host": "localhost"}, server_hostname="localhost") as response:
            assert (await response.json())["authority"] == "localhost"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            async with session.get(url, server_hostname="other.example"):
                pass


async def test_the_gate_and_mode_disabled_leave_all_to_http1(sessions: Sessions, authority: Authority, ca_file: str) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1")

    async with serving(tls=authority.server_context("http/1.1"), prepare=prepare) as server:
        for shared, mode in (
            (sessions(), "Disabled"),
            (sessions(HttpSettings(http2=False)), "Auto"),
            (sessions(HttpSettings(http2=False)), PRIOR),
        ):
            async with shared.of(mode=mode, ca_file=ca_file).get(server.url) as response:
                assert (response.version, await response.text()) == (aiohttp.HttpVersion11, "h1")


async def test_without_tls_auto_is_http1(sessions: Sessions) -> None:
    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1")

    async with serving(prepare=prepare) as server, sessions()().get(server.url) as response:
        assert (response.version, await response.text()) == (aiohttp.HttpVersion11, "h1")


async def test_prior_knowledge_over_tls_offers_http2_only(sessions: Sessions, authority: Authority, ca_file: str) -> None:
    async with serving(echo, tls=authority.server_context("h2", "http/1.1")) as server:
        session = sessions().of(mode=PRIOR, ca_file=ca_file)
        async with session.get(server.url) as response:
            assert response.version == aiohttp.HttpVersion(2, 0)


async def test_a_context_that_a_request_brings_to_a_session_without_ca_gets_http1(
    sessions: Sessions, authority: Authority, ca_file: str
) -> None:
    context = ssl.create_default_context(cafile=ca_file)

    def prepare(server: Http2Server) -> None:
        server.greets = False
        server.accepted = lambda peer: peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1")

    async with serving(tls=authority.server_context("http/1.1"), prepare=prepare) as server:
        shared = sessions()
        async with shared().get(server.url, ssl=context) as response:
            assert response.version == aiohttp.HttpVersion11
        with pytest.raises(NotHttp2, match="context of the session's only"):
            async with shared.of(mode=PRIOR).get(server.url, ssl=context):
                pass
    async with serving(echo, tls=authority.server_context("h2")) as server:
        async with shared.of(ca_file=ca_file).get(server.url, ssl=context) as response:  # the session's bundle is used all the same
            assert response.version == aiohttp.HttpVersion(2, 0)
        async with shared().get(server.url, ssl=False) as response:
            assert response.version == aiohttp.HttpVersion(2, 0)


async def test_raise_for_status_names_the_status(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.answer(b"no", status=503)

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(aiohttp.ClientResponseError) as raised:
            async with session.get(server.url, raise_for_status=True):
                pass
        assert (raised.value.status, raised.value.message) == (503, "Service Unavailable")


async def test_a_status_without_a_phrase_has_none(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.answer(b"?", status=599)

    async with serving(script) as server, sessions().of(mode=PRIOR).get(server.url) as response:
        assert (response.status, response.reason) == (599, "")


async def test_cookies_come_back_and_redirects_are_followed(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if request.path == "/login":
            await request.answer(
                b"", status=302, fields=[("location", "/home"), ("set-cookie", "who=me; Path=/"), ("set-cookie", "b=2; Path=/")]
            )
        else:
            await echo(request)

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        async with session.post(server.url + "/login", data=b"secret") as response:
            seen = await response.json()
            assert [step.status for step in response.history] == [302]
        assert (seen["method"], seen["path"], seen["body"]) == ("GET", "/home", "")
        assert dict(seen["fields"])["cookie"] in ("who=me; b=2", "b=2; who=me")
        async with session.post(server.url + "/login", data=b"x", allow_redirects=False) as response:
            assert response.status == 302


async def test_a_307_sends_the_body_again(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        if request.path == "/a":
            await request.answer(b"", status=307, fields=[("location", "/b")])
        else:
            await echo(request)

    async with serving(script) as server, sessions().of(mode=PRIOR).post(server.url + "/a", data=b"again") as response:
        assert (await response.json())["body"] == "again"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)])
async def test_a_compressed_answer_is_decompressed(sessions: Sessions, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    async def script(request: Request) -> None:
        await request.answer(pack(b"word " * 100_000), fields=[("content-encoding", encoding)])

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        async with session.get(server.url) as response:
            assert await response.read() == b"word " * 100_000
        async with session.get(server.url) as response:
            size = 0
            async for chunk in response.content.iter_chunked(1000):
                size += len(chunk)
            assert size == 500_000


async def test_an_answer_that_does_not_decompress_is_a_payload_error(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.answer(b"this is no gzip", fields=[("content-encoding", "gzip")])

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get(server.url) as response:
                await response.read()
        async with session.get(server.url, auto_decompress=False) as response:
            assert await response.read() == b"this is no gzip"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_frees_its_stream(sessions: Sessions, method: str, status: int) -> None:
    async def script(request: Request) -> None:
        request.fields_out(status, [("content-length", "500")] if method == "HEAD" else [], end=True)

    async with serving(script) as server:
        shared = sessions()
        async with shared.of(mode=PRIOR).request(method, server.url) as response:
            assert (response.status, await response.read()) == (status, b"")
        assert [use.streams for use in shared.use().values()] == [0]
        assert server.seen.resets == []


async def test_what_comes_before_the_answer_and_after_the_body_is_skipped(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        h2 = request.peer.h2
        h2.send_headers(request.stream, [(":status", "103"), ("link", "</a>")])
        request.fields_out(200)
        await request.data_out(b"body")
        h2.send_headers(request.stream, [("checksum", "1")], end_stream=True)
        request.peer.flush()

    async with serving(script) as server, sessions().of(mode=PRIOR).get(server.url) as response:
        assert (response.status, await response.text()) == (200, "body")


async def test_a_body_that_waits_for_100_is_sent_after_it(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        assert request["expect"] == "100-continue"
        assert not request.body
        request.peer.h2.send_headers(request.stream, [(":status", "100")])
        request.peer.flush()
        await request.complete.wait()
        await request.answer(bytes(request.body))

    async with serving(script) as server, sessions().of(mode=PRIOR).post(server.url, data=b"patient", expect100=True) as response:
        assert await response.text() == "patient"


@pytest.mark.parametrize(("sent", "named"), [(b"12345", "10"), (b"1234567890", "5"), (b"", "5")])
async def test_a_body_of_another_length_than_named_is_an_error_of_this_request_only(sessions: Sessions, sent: bytes, named: str) -> None:
    async def script(request: Request) -> None:
        if request.path == "/good":
            await request.answer(b"good")
        else:
            await request.answer(sent, fields=[("content-length", named)])

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(aiohttp.ClientPayloadError, match="content-length"):
            async with session.get(server.url) as response:
                await response.read()
        async with session.get(server.url + "/good") as response:
            assert await response.text() == "good"
        assert server.seen.connections == 1


@pytest.mark.parametrize(
    "fields",
    [
        [("connection", "close")],
        [("x", "a\nb")],
        [("Upper", "case")],
        [(":status", "200")],
        [(":path", "/")],
        [(f"f{number}", "x") for number in range(200)],
    ],
    ids=["connection", "line break", "upper case", "two statuses", "pseudo", "too many"],
)
async def test_malformed_fields_are_an_error_of_this_request_only(sessions: Sessions, fields: list[tuple[str, str]]) -> None:
    async def script(request: Request) -> None:
        if request.path == "/good":
            await request.answer(b"good")
        else:
            request.peer.h2.config.normalize_outbound_headers = False
            request.fields_out(200, fields)

    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        with pytest.raises(MalformedAnswer):
            async with session.get(server.url):
                pass
        await server.seen.until(lambda seen: len(seen.resets) == 1)
        async with session.get(server.url + "/good") as response:
            assert await response.text() == "good"


async def test_a_streamed_upload_arrives_and_may_be_compressed(sessions: Sessions, tmp_path: Path) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        body = bytes(request.body)
        encoding = dict(request.fields).get("content-encoding")
        await request.answer(str(len(zlib.decompress(body) if encoding == "deflate" else body)).encode())

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000
            await asyncio.sleep(0)

    large = tmp_path / "large"
    large.write_bytes(b"y" * 3_000_000)
    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        async with session.post(server.url, data=body()) as response:
            assert await response.text() == "1000000"
        async with session.post(server.url, data=body(), compress="deflate") as response:
            assert await response.text() == "1000000"
        with large.open("rb") as file:
            async with session.post(server.url, data=file) as response:
                assert await response.text() == "3000000"
        form = aiohttp.FormData({"a": "b"})
        async with session.post(server.url, data=form) as response:
            assert await response.text() == "3"


async def test_a_body_of_known_length_takes_the_end_along_with_its_last_byte(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        await request.complete.wait()
        await request.answer(repr(request.pieces).encode())

    async def halves(*, more: bytes = b"") -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd" + more

    known = {"Content-Length": "4"}
    async with serving(script) as server:
        session = sessions().of(mode=PRIOR)
        for body, headers, pieces in (
            (b"abcd", {}, [(4, True)]),
            (b"x" * 20_000, {}, [(16384, False), (3616, True)]),
            (halves(), known, [(2, False), (2, True)]),
            (halves(more=b"e"), known, [(2, False), (2, True)]),
            (halves(), {}, [(2, False), (2, False), (0, True)]),
        ):
            async with session.post(server.url, data=body, headers=headers) as response:
                assert await response.text() == repr(pieces)
    assert server.seen.resets == []


async def test_upload_progress_is_told(sessions: Sessions) -> None:
    async with serving(echo) as server:
        session = sessions().of(mode=PRIOR)
        for body in (b"x" * 100, None):
            tracker = aiohttp.UploadTracker()
            async with session.post(server.url, data=body, upload_tracker=tracker) as response:
                await response.read()
            await tracker.upload_complete
            assert tracker.bytes_written == len(body or b"")


async def test_a_body_that_raises_ends_its_request_with_a_reset(sessions: Sessions) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"some"
        raise RuntimeError("the source is broken")

    async with serving(echo) as server:
        with pytest.raises(aiohttp.ClientConnectionError, match="the source is broken"):
            async with sessions().of(mode=PRIOR).post(server.url, data=body()):
                pass
        await server.seen.until(lambda seen: len(seen.resets) == 1)


async def test_an_answer_before_the_body_is_sent_ends_the_upload(sessions: Sessions) -> None:
    ended = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            ended.set()

    async def script(request: Request) -> None:
        await request.answer(b"too much", status=413)

    async with serving(script) as server:
        async with sessions().of(mode=PRIOR).post(server.url, data=body()) as response:
            assert (response.status, await response.text()) == (413, "too much")
        await server.seen.until(lambda seen: len(seen.resets) == 1)


async def test_an_endless_upload_ends_with_an_answer_that_is_read_slowly(sessions: Sessions) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    async def script(request: Request) -> None:
        await request.answer(b"y" * 500_000, status=413)

    async with serving(script) as server:
        async with sessions().of(mode=PRIOR).post(server.url, data=body(), read_bufsize=1000) as response:
            await asyncio.sleep(0.1)
            assert len(await response.read()) == 500_000
        await server.seen.until(lambda seen: len(seen.resets) == 1)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [({"X-A": "a\r\nb"}, "line break"), ({"X A": "a"}, "character"), ({"Host": "a b"}, "host")],
    ids=["value", "name", "host"],
)
async def test_headers_that_would_be_several_are_refused(sessions: Sessions, headers: dict[str, str], problem: str) -> None:
    async with serving(echo) as server:
        shared = sessions()
        with pytest.raises(ValueError, match=problem):
            async with shared.of(mode=PRIOR).get(server.url, headers=headers):
                pass
        assert [use.streams for use in shared.use().values()] == [0]
        assert server.seen.requests == 0


async def test_traces_see_what_they_see_over_http1(sessions: Sessions) -> None:
    seen: list[str] = []
    trace = aiohttp.TraceConfig()
    for name in (
        "request_start",
        "connection_queued_start",
        "connection_create_start",
        "connection_create_end",
        "connection_queued_end",
        "connection_reuseconn",
        "request_headers_sent",
        "request_chunk_sent",
        "response_chunk_received",
        "request_end",
        "request_exception",
    ):

        async def note(_session: object, _context: object, _parameters: object, name: str = name) -> None:
            seen.append(name)

        getattr(trace, f"on_{name}").append(note)

    async with serving(echo) as server:
        session = sessions(traces=(trace,)).of(mode=PRIOR)
        for _ in range(2):
            async with session.post(server.url, data=b"x") as response:
                await response.read()
    every = ["request_headers_sent", "request_chunk_sent", "request_end", "response_chunk_received"]
    assert seen == [
        "request_start",
        "connection_queued_start",
        "connection_create_start",
        "connection_create_end",
        "connection_queued_end",
        *every,
        "request_start",
        "connection_reuseconn",
        *every,
    ]


async def test_a_response_knows_its_connection_and_gives_it_back_once(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.fields_out()
        await request.reset.wait()

    async with serving(script) as server:
        shared = sessions()
        response = await shared.of(mode=PRIOR).get(server.url)
        connection = response.connection
        assert connection is not None
        assert not connection.closed
        assert connection.transport.get_extra_info("peername")[1] == server.port
        response.close()
        response.close()
        assert connection.closed
        assert (connection.transport, connection.protocol) == (None, None)
        await server.seen.until(lambda seen: len(seen.resets) == 1)


async def test_frames_of_no_interest_are_skipped(sessions: Sessions) -> None:
    async def script(request: Request) -> None:
        request.peer.raw(b"\0\0\x04\xee\0\0\0\0\0what")  # a frame of an extension
        request.peer.raw(b"\0\0\x05\x02\0" + request.stream.to_bytes(4, "big") + b"\0\0\0\0\x10")  # PRIORITY
        request.peer.h2.ping(b"12345678")
        await request.answer()

    async with serving(script) as server, sessions().of(mode=PRIOR).get(server.url) as response:
        assert await response.text() == "ok"
