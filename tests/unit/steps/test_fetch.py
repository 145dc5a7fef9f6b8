"""`fetch` against servers on this machine that do as a test says."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import subprocess
import tracemalloc
from email.utils import formatdate
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import structs
from tests.fakes.step_context import step_context

from agenttask.api.constants import MAX_STEP_TEXT_BYTES
from agenttask.api.document import Policy
from agenttask.api.errors import InvalidTask, OutputTooLarge, RateLimited, ServiceUnavailable, StepFailed
from agenttask.runner.files import TaskFiles
from agenttask.runner.places import places
from agenttask_steps.fetch import FetchStep
from agenttask_steps.rendered import RenderedFetch, RenderedHeader

NOW = 1_700_000_000.0


class Site:
    """A server, a session, and the requests that came."""

    def __init__(self, server, session):
        self.server = server
        self.session = session
        self.requests = []
        self.handler = None
        self.hosts = [f"127.0.0.1:{server.port}"]
        self.names = {}
        self.log = []

    def url(self, path="/", host="127.0.0.1", scheme="http"):
        return f"{scheme}://{host}:{self.server.port}{path}"

    async def lookup(self, host, port):
        return self.names[host]

    async def fetch(self, folder, url=None, *, secrets=None, files=None, **fields):
        context = step_context(folder, policy=Policy(hosts=tuple(self.hosts)), session=self.session, secrets=secrets, log=self.log.append)
        if files is not None:
            context = structs.replace(context, files=files)
        step = FetchStep(lookup=self.lookup, now=lambda: NOW)
        return await step.run(RenderedFetch(url=url or self.url(), **fields), context)


@contextlib.asynccontextmanager
async def serving(tls=None, connector=None):
    site = None

    async def handle(request):
        site.requests.append((request.method, request.path_qs, request.headers, await request.read()))
        return await site.handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    server = TestServer(application, host="127.0.0.1", **({"scheme": "https"} if tls else {}))
    await server.start_server(**({"ssl": tls} if tls else {}))
    async with aiohttp.ClientSession(connector=connector) as session:
        site = Site(server, session)
        try:
            yield site
        finally:
            await server.close()


@pytest.fixture
async def site():
    async with serving() as site:
        yield site


def answering(**fields):
    async def handler(request):
        return web.Response(**fields)

    return handler


async def test_the_body_is_the_text(site, tmp_path):
    site.handler = answering(text="grüße")
    output = await site.fetch(tmp_path, site.url("/a?b=c"))
    assert (output.text, output.json) == ("grüße", None)
    (method, path, headers, body) = site.requests[0]
    assert (method, path, body, headers["User-Agent"], headers["Host"]) == ("GET", "/a?b=c", b"", "agenttask", site.hosts[0])


async def test_json_is_the_value(site, tmp_path):
    site.handler = answering(body=b'{"a": [1]}', content_type="application/problem+json")
    assert (await site.fetch(tmp_path)).json == {"a": [1]}


async def test_an_empty_body_called_json_has_no_value(site, tmp_path):
    site.handler = answering(status=204, content_type="application/json")
    output = await site.fetch(tmp_path)
    assert (output.text, output.json) == ("", None)


async def test_what_is_called_json_and_is_none_fails_the_step(site, tmp_path):
    site.handler = answering(body=b"{", content_type="application/json")
    with pytest.raises(StepFailed, match="is called application/json, and is no JSON"):
        await site.fetch(tmp_path)


@pytest.mark.parametrize(
    ("body", "sent"),
    [('{"a": 1}', "application/json"), ("plain", "text/plain; charset=utf-8")],
    ids=["json", "text"],
)
async def test_a_post_sends_its_body_with_a_type(site, tmp_path, body, sent):
    site.handler = answering(text="ok")
    await site.fetch(tmp_path, method="POST", body=body)
    assert (site.requests[0][0], site.requests[0][3], site.requests[0][2]["Content-Type"]) == ("POST", body.encode(), sent)


async def test_headers_and_secrets_are_sent(site, tmp_path):
    site.handler = answering(text="ok")
    headers = (
        RenderedHeader(name="Authorization", secret_key_ref={"name": "s", "key": "k"}),
        RenderedHeader(name="content-type", value="text/csv"),
    )
    await site.fetch(tmp_path, method="POST", body="a,b", headers=headers, secrets={"Authorization": "Bearer hunter2\n"})
    assert site.requests[0][2]["Authorization"] == "Bearer hunter2"
    assert site.requests[0][2].getall("Content-Type") == ["text/csv"]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([RenderedHeader(name="Host", value="evil.example")], "'Host' is set by the connection"),
        ([RenderedHeader(name="transfer-encoding", value="chunked")], "is set by the connection"),
        ([RenderedHeader(name="A", value="x\r\nB: y")], "holds a line break"),
        ([RenderedHeader(name="A", value="1"), RenderedHeader(name="a", value="2")], "'a' is given twice"),
        ([RenderedHeader(name="A")], "exactly one of `value` and `secretKeyRef`"),
        ([RenderedHeader(name="A", secret_key_ref={"name": "s", "key": "k"})], "the secret for 'A' was not handed"),
    ],
    ids=["host", "framing", "line-break", "twice", "no-value", "no-secret"],
)
async def test_headers_that_cannot_be_sent_are_refused(site, tmp_path, headers, said):
    with pytest.raises(InvalidTask, match=said):
        await site.fetch(tmp_path, headers=tuple(headers))
    assert site.requests == []


async def test_a_get_has_no_body(site, tmp_path):
    with pytest.raises(InvalidTask, match="goes with `method: POST`"):
        await site.fetch(tmp_path, body="x")


# ---- where it may go


async def test_a_host_that_is_not_allowed_is_refused(site, tmp_path):
    with pytest.raises(InvalidTask, match=r"fetch\.url: .*'evil\.example'; hosts it allows: 127\.0\.0\.1"):
        await site.fetch(tmp_path, "https://evil.example/")


async def test_an_allowed_name_that_leads_to_this_pod_is_refused(site, tmp_path):
    site.hosts, site.names = [f"api.example:{site.server.port}"], {"api.example": ["127.0.0.1"]}
    with pytest.raises(StepFailed, match=r"has the address 127\.0\.0\.1, which is a loopback address"):
        await site.fetch(tmp_path, site.url(host="api.example"))
    assert site.requests == []


async def test_the_name_is_resolved_once_and_the_checked_address_is_connected_to(site, tmp_path):
    site.handler = answering(text="here")
    site.hosts = [f"localhost:{site.server.port}"]
    asked = []

    async def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    site.lookup = rebinding
    assert (await site.fetch(tmp_path, site.url(host="LOCALHOST."))).text == "here"
    assert (asked, site.requests[0][2]["Host"]) == (["localhost"], f"localhost:{site.server.port}")


async def test_the_next_address_is_tried_where_one_takes_no_connection(site, tmp_path):
    site.handler = answering(text="here")
    site.hosts, site.names = [f"localhost:{site.server.port}"], {"localhost": ["127.0.0.9", "127.0.0.1"]}
    assert (await site.fetch(tmp_path, site.url(host="localhost"))).text == "here"


# ---- redirects


async def test_redirects_are_followed(site, tmp_path):
    async def handler(request):
        return web.Response(text="end") if request.path == "/b/c" else web.Response(status=302, headers={"Location": "b/c"})

    site.handler = handler
    headers = (RenderedHeader(name="X-Token", value="t"), RenderedHeader(name="Content-Type", value="text/csv"))
    output = await site.fetch(tmp_path, site.url("/a"), method="POST", body="x", headers=headers)
    assert output.text == "end"
    assert [(method, path, body) for method, path, _, body in site.requests] == [("POST", "/a", b"x"), ("GET", "/b/c", b"")]
    assert site.requests[1][2]["X-Token"] == "t"
    assert site.log == [f"{site.hosts[0]} answered 302; following it to {site.hosts[0]}"]


async def test_a_body_goes_again_where_the_method_is_kept(site, tmp_path):
    async def handler(request):
        return web.Response(text="end") if request.path == "/b" else web.Response(status=307, headers={"Location": "/b"})

    site.handler = handler
    await site.fetch(tmp_path, site.url("/a"), method="POST", body="x")
    assert [(method, body) for method, _, _, body in site.requests] == [("POST", b"x"), ("POST", b"x")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_headers_never_follow_to_another_host(site, tmp_path, status):
    async with serving() as other:
        other.handler = answering(text="end")
        site.handler = answering(status=status, headers={"Location": other.url("/b")})
        site.hosts.append(other.hosts[0])
        headers = (RenderedHeader(name="Authorization", value="Bearer t"), RenderedHeader(name="Cookie", value="a=b"))
        assert (await site.fetch(tmp_path, headers=headers)).text == "end"
        assert not {"Authorization", "Cookie"} & other.requests[0][2].keys()


async def test_a_body_never_follows_to_another_host(site, tmp_path):
    async with serving() as other:
        site.handler = answering(status=307, headers={"Location": other.url("/b")})
        site.hosts.append(other.hosts[0])
        with pytest.raises(StepFailed, match="redirects the request with its body to another host"):
            await site.fetch(tmp_path, method="POST", body="x")
        assert other.requests == []


@pytest.mark.parametrize(
    ("location", "error", "said"),
    [
        ("http://evil.example/", InvalidTask, "does not allow"),
        ("http://169.254.169.254/latest/", InvalidTask, "does not allow"),
        ("file:///etc/passwd", StepFailed, "cannot be followed"),
        ("http://user@127.0.0.1/", StepFailed, "cannot be followed"),
        ("http://[", StepFailed, "cannot be followed"),
    ],
    ids=["host", "metadata", "file", "user", "nonsense"],
)
async def test_a_redirect_is_checked_as_the_first_url_was(site, tmp_path, location, error, said):
    site.handler = answering(status=302, headers={"Location": location})
    with pytest.raises(error, match=said):
        await site.fetch(tmp_path)


async def test_a_redirect_to_a_name_that_leads_to_this_pod_is_refused(site, tmp_path):
    site.handler = answering(status=302, headers={"Location": site.url(host="api.example")})
    site.hosts.append(f"api.example:{site.server.port}")
    site.names = {"api.example": ["127.0.0.1"]}
    with pytest.raises(StepFailed, match="loopback"):
        await site.fetch(tmp_path)


async def test_redirects_end(site, tmp_path):
    site.handler = answering(status=302, headers={"Location": "/again"})
    with pytest.raises(StepFailed, match="more than 5 redirects"):
        await site.fetch(tmp_path)
    assert len(site.requests) == 6


async def test_a_redirect_that_leads_nowhere_is_a_failure(site, tmp_path):
    site.handler = answering(status=302)
    with pytest.raises(StepFailed, match="answered 302"):
        await site.fetch(tmp_path)


# ---- sizes


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65536)
    return response


async def test_an_endless_body_ends_at_the_bound(site, tmp_path):
    site.handler = endless
    with pytest.raises(OutputTooLarge, match="more than 100000 bytes; raise `maxBytes`"):
        await site.fetch(tmp_path, max_bytes=100_000)


async def test_a_text_that_no_step_can_hand_on_says_where_it_can_go(site, tmp_path):
    site.handler = endless
    with pytest.raises(OutputTooLarge, match=f"more than {MAX_STEP_TEXT_BYTES} bytes; .*give `path`"):
        await site.fetch(tmp_path, max_bytes=1 << 30)


async def test_a_body_that_says_it_is_too_large_is_not_read(site, tmp_path):
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Length": str(10 << 30)})
        await response.prepare(request)
        await asyncio.Event().wait()

    site.handler = handler
    with pytest.raises(OutputTooLarge):
        await asyncio.wait_for(site.fetch(tmp_path, path="big", max_bytes=1 << 30), 60)
    assert list(tmp_path.iterdir()) == []


async def test_a_compressed_bomb_is_bounded(site, tmp_path):
    bomb = gzip.compress(bytes(256 << 20), compresslevel=1)
    site.handler = answering(body=bomb, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        with pytest.raises(OutputTooLarge):
            await site.fetch(tmp_path, max_bytes=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


# ---- files


def task_files(folder):
    context = step_context(folder)
    return TaskFiles(places(folder, {}), context.threads)


async def test_a_body_goes_to_a_file(site, tmp_path):
    site.handler = answering(body=bytes(range(256)) * 10_000, content_type="application/octet-stream")
    output = await site.fetch(tmp_path, path="out/image.png", max_bytes=1 << 24, files=task_files(tmp_path))
    assert output.text == "out/image.png"
    assert (tmp_path / "out/image.png").read_bytes() == bytes(range(256)) * 10_000
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image.png"]


async def test_nothing_is_left_of_a_body_that_is_too_large(site, tmp_path):
    (tmp_path / "out").write_text("old")
    site.handler = endless
    with pytest.raises(OutputTooLarge):
        await site.fetch(tmp_path, path="out", max_bytes=100_000, files=task_files(tmp_path))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "old")]


async def test_a_path_outside_is_refused_before_anything_is_asked(site, tmp_path):
    with pytest.raises(StepFailed, match="outside"):
        await site.fetch(tmp_path, path="../a", files=task_files(tmp_path))
    assert site.requests == []


async def test_a_path_that_cannot_be_written_is_told(site, tmp_path):
    site.handler = answering(body=b"x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StepFailed, match=r"'file/a' cannot be written"):
        await site.fetch(tmp_path, path="file/a", files=task_files(tmp_path))


# ---- texts


@pytest.mark.parametrize(
    ("raw", "charset"),
    [("grüße".encode("latin-1"), "iso-8859-1"), ("\ufeffgrüße".encode(), None), ("grüße".encode("utf-16"), "utf-16")],
    ids=["latin-1", "utf-8-with-mark", "utf-16"],
)
async def test_a_text_is_read_in_its_charset(site, tmp_path, raw, charset):
    site.handler = answering(body=raw, headers={"Content-Type": "text/plain" + (f"; charset={charset}" if charset else "")})
    assert (await site.fetch(tmp_path)).text == "grüße"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("image/png", "no utf-8 text: byte 0x89 at offset 0; give `path`"),
        ("text/plain; charset=klingon", "charset 'klingon', which is not known"),
        ("text/plain; charset=hex", "charset 'hex', which is not known"),
        ("text/plain; charset=punycode", "charset 'punycode', which is not known"),
    ],
)
async def test_bytes_that_are_no_text_are_told(site, tmp_path, kind, said):
    site.handler = answering(body=b"\x89PNG\r\n", headers={"Content-Type": kind})
    with pytest.raises(StepFailed, match=said):
        await site.fetch(tmp_path)


# ---- failures


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, StepFailed),
        (401, StepFailed),
        (404, StepFailed),
        (408, ServiceUnavailable),
        (500, ServiceUnavailable),
        (503, ServiceUnavailable),
    ],
)
async def test_a_status_is_a_typed_error(site, tmp_path, status, error):
    site.handler = answering(status=status, text="no luck " + "x" * 10_000)
    with pytest.raises(error, match=f"answered {status}: no luck x") as failed:
        await site.fetch(tmp_path)
    assert len(str(failed.value)) < 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (formatdate(NOW + 90, usegmt=True), 90.0), ("soon", None), (None, None)],
    ids=["seconds", "date", "nonsense", "none"],
)
@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, ServiceUnavailable)])
async def test_a_busy_server_says_when_to_come_back(site, tmp_path, value, seconds, status, error):
    site.handler = answering(status=status, headers={} if value is None else {"Retry-After": value})
    with pytest.raises(error) as failed:
        await site.fetch(tmp_path)
    assert failed.value.retry_after == seconds


async def test_a_secret_that_the_server_repeats_is_covered(site, tmp_path):
    async def handler(request):
        return web.Response(status=403, text=f"bad token {request.headers['X-Token']}!")

    site.handler = handler
    headers = (RenderedHeader(name="X-Token", secret_key_ref={"name": "s", "key": "k"}),)
    with pytest.raises(StepFailed, match=r"answered 403: bad token \*\*\*!$"):
        await site.fetch(tmp_path, headers=headers, secrets={"X-Token": "hunter2"})


async def test_nobody_listening_is_worth_a_retry(site, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # ours, and nobody listens on it
        site.hosts = [f"127.0.0.1:{port}"]
        with pytest.raises(ServiceUnavailable, match="cannot be connected to: Connect"):
            await site.fetch(tmp_path, f"http://127.0.0.1:{port}/")


async def raw_server(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (b"", ServiceUnavailable, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", ServiceUnavailable, "broke off"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", StepFailed, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", ServiceUnavailable, "broke off"),
    ],
    ids=["nothing", "half-a-body", "no-http", "no-gzip"],
)
async def test_an_answer_that_is_none_is_a_typed_error(site, tmp_path, answer, error, said):
    async with await raw_server(answer) as server:
        port = server.sockets[0].getsockname()[1]
        site.hosts = [f"127.0.0.1:{port}"]
        with pytest.raises(error, match=said):
            await site.fetch(tmp_path, f"http://127.0.0.1:{port}/")


async def test_silence_is_a_typed_error(site, tmp_path, monkeypatch):
    from agenttask_steps import exchange

    monkeypatch.setattr(exchange, "_TIMEOUT", aiohttp.ClientTimeout(total=0.2, sock_connect=10, sock_read=60))

    async def handler(request):
        await asyncio.sleep(30)

    site.handler = handler
    with pytest.raises(ServiceUnavailable, match="did not answer in time"):
        await site.fetch(tmp_path)


async def test_a_cancelled_step_closes_its_connection(site, tmp_path):
    begun, left = asyncio.Event(), asyncio.Event()

    async def handler(request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    site.handler = handler
    running = asyncio.create_task(site.fetch(tmp_path))
    await asyncio.wait_for(begun.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not site.session.connector._acquired


# ---- TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run(["openssl", "req", "-x509", *kind, *files, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return folder


def server_tls(pki):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
    return context


async def test_a_certificate_is_held_against_the_name(pki, tmp_path):
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=pki / "cert.pem"))
    async with serving(server_tls(pki), connector) as site:
        site.handler = answering(text="safe")
        site.hosts, site.names = [f"localhost:{site.server.port}"], {"localhost": ["127.0.0.1"]}
        assert (await site.fetch(tmp_path, site.url(host="localhost", scheme="https"))).text == "safe"
        site.hosts = [f"127.0.0.1:{site.server.port}"]
        with pytest.raises(StepFailed, match=r"TLS failed: .*(mismatch|not valid)"):
            await site.fetch(tmp_path, site.url(scheme="https"))


async def test_a_certificate_of_nobody_known_is_a_typed_error(pki, tmp_path):
    async with serving(server_tls(pki)) as site:
        site.hosts, site.names = [f"localhost:{site.server.port}"], {"localhost": ["127.0.0.1"]}
        with pytest.raises(StepFailed, match=r"TLS failed: .*self-signed"):
            await site.fetch(tmp_path, site.url(host="localhost", scheme="https"))


async def test_no_redirect_leads_from_https_to_http(pki, tmp_path):
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=pki / "cert.pem"))
    async with serving(server_tls(pki), connector) as site:
        site.handler = answering(status=301, headers={"Location": site.url(host="localhost")})
        site.hosts, site.names = [f"localhost:{site.server.port}"], {"localhost": ["127.0.0.1"]}
        with pytest.raises(StepFailed, match="redirects from https to http"):
            await site.fetch(tmp_path, site.url(host="localhost", scheme="https"))


async def test_a_server_that_speaks_no_tls_is_a_typed_error(site, tmp_path):
    with pytest.raises(StepFailed, match="TLS failed"):
        await site.fetch(tmp_path, site.url(scheme="https"))
