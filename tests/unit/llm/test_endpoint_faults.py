"""What an endpoint may do to a client, for each client that speaks HTTP: every fault is typed, and none takes the memory."""

import asyncio
import gzip
import os
import resource
import ssl
import sys
import zlib

import pytest
import trustme
from tests.fakes.llm_server import llm_server
from tests.fakes.models import ask, client_context, model_document

from agenttask.api.errors import InvalidTask, ModelRejected, ModelUnavailable
from agenttask.api.model import Timeouts
from agenttask.runner.session import SharedSession
from agenttask_llm import agenttask_llm_clients

FACTORIES = agenttask_llm_clients()
MIB = 1 << 20


@pytest.fixture(params=["openai", "anthropic"])
def kind(request) -> str:
    return request.param


@pytest.fixture
async def server():
    async with llm_server() as running:
        yield running


@pytest.fixture
async def shared():
    session = SharedSession()
    yield session
    await session.aclose()


def client_of(kind, server, shared, *, credential=None, **fields):
    """As the runner makes it: on the session that has the model's headers, CA and HTTP/2 mode."""
    fields = {"timeouts": Timeouts(connect_seconds=10, total_seconds=300)} | fields  # a slow machine is no fault
    here = {} if server is None else {"endpoint": server.endpoint if kind == "openai" else server.url}
    model = model_document(kind, **here | fields)
    context = client_context(credential=credential)
    return FACTORIES[kind](model, type(context)(credential=credential, session=shared.for_model(model), engines=context.engines))


async def streamed(client) -> str:
    return "".join([chunk.text async for chunk in client.stream(ask("one two three"))])


def memory() -> int:
    """The most bytes this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ---- time


@pytest.mark.parametrize("http2", ["Auto", "Disabled"])
async def test_a_server_that_takes_a_connection_and_says_nothing_is_unavailable_after_the_time_to_connect(kind, shared, http2):
    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as silent:
        host, port = silent.sockets[0].getsockname()
        timeouts = Timeouts(connect_seconds=1, total_seconds=60)
        client = client_of(kind, None, shared, endpoint=f"https://{host}:{port}", timeouts=timeouts, http2=http2)
        with pytest.raises(ModelUnavailable, match=r"did not answer in time \(connectSeconds 1, totalSeconds 60\)"):
            await client.chat(ask("x"))


@pytest.mark.parametrize("begins", ["not at all", "with nothing to say"])
async def test_a_stream_whose_first_piece_is_late_is_unavailable(kind, server, shared, begins):
    if begins == "not at all":
        server.behaviour.delay = 30
    else:
        server.behaviour.stall_after = 2  # of a comment, a role or a start without text
    client = client_of(kind, server, shared, timeouts=Timeouts(connect_seconds=2, first_token_seconds=1, total_seconds=60))
    with pytest.raises(ModelUnavailable, match=r"did not begin to answer in time \(firstTokenSeconds 1\)"):
        await streamed(client)


async def test_a_stream_that_began_in_time_may_take_longer(kind, server, shared):
    client = client_of(kind, server, shared, timeouts=Timeouts(connect_seconds=2, first_token_seconds=3, total_seconds=60))
    stream = client.stream(ask("one two three"))
    pieces = [(await anext(stream)).text]
    await asyncio.sleep(3.2)
    pieces += [chunk.text async for chunk in stream]
    assert "".join(pieces) == "echo: one two three"


async def test_half_a_piece_and_then_silence_is_unavailable_when_the_total_time_is_over(kind, server, shared):
    server.behaviour.events = ['data: {"choices": [{"delta": {"content": "ha', ": never\n\n"]
    server.behaviour.stall_after = 1
    client = client_of(kind, server, shared, timeouts=Timeouts(connect_seconds=2, total_seconds=1))
    with pytest.raises(ModelUnavailable, match=r"did not answer in time \(connectSeconds 2, totalSeconds 1\)"):
        await streamed(client)
    async with asyncio.timeout(60):
        await server.disconnected.wait()


# ---- size


async def test_ten_gigabytes_are_refused_at_the_bound(kind, server, shared):
    server.behaviour.endless = b" " * MIB
    before = memory()
    with pytest.raises(ModelRejected, match="answered with more than 33554432 bytes"):
        await client_of(kind, server, shared).chat(ask("x"))
    async with asyncio.timeout(60):
        await server.disconnected.wait()
    assert server.sent < 100 * MIB
    assert memory() - before < 200 * MIB


@pytest.mark.parametrize(
    "piece",
    [b"x" * MIB, b"data: %s\n" % (b"x" * 249) * (MIB // 256), b": %s\n\n" % (b"y" * 252) * (MIB // 256)],
    ids=["line", "event", "comments"],
)
async def test_an_endless_line_event_or_stream_is_refused_at_the_bound(kind, server, shared, piece):
    server.behaviour.endless, server.behaviour.content_type = piece, "text/event-stream"
    with pytest.raises(ModelRejected, match=r"sent a malformed stream: (a line|an event|more)"):
        await streamed(client_of(kind, server, shared))
    async with asyncio.timeout(60):
        await server.disconnected.wait()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """512 MiB in half a megabyte."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b" " * MIB) for _ in range(512)) + packer.flush()


@pytest.mark.parametrize("status", [200, 400])
async def test_a_compression_bomb_stays_within_the_bound(kind, server, shared, status, bomb):
    assert len(bomb) < MIB
    server.behaviour.status, server.behaviour.body, server.behaviour.headers = status, bomb, {"Content-Encoding": "gzip"}
    before = memory()
    with pytest.raises(ModelRejected, match="more than 33554432 bytes" if status == 200 else "answered 400"):
        await client_of(kind, server, shared).chat(ask("x"))
    assert memory() - before < 200 * MIB


async def test_what_is_no_gzip_is_typed(kind, server, shared):
    server.behaviour.body, server.behaviour.headers = gzip.compress(os.urandom(4096))[:-900], {"Content-Encoding": "gzip"}
    with pytest.raises((ModelRejected, ModelUnavailable), match="model 'm'"):
        await client_of(kind, server, shared).chat(ask("x"))
    server.behaviour.body = b"no gzip at all"
    with pytest.raises(ModelUnavailable, match="broke off in the middle of its answer"):
        await client_of(kind, server, shared).chat(ask("x"))


async def test_json_that_is_nested_without_end_is_refused(kind, server, shared):
    server.behaviour.body = b'{"choices": ' + b"[" * 100_000
    with pytest.raises(ModelRejected, match="is no answer"):
        await client_of(kind, server, shared).chat(ask("x"))
    server.behaviour.body, server.behaviour.events = None, ['data: {"type": ' + "[" * 100_000 + "\n\n"]
    with pytest.raises(ModelRejected, match="is no answer"):
        await streamed(client_of(kind, server, shared))


# ---- whom to trust, and what is sent along


async def test_headers_of_the_model_are_sent_and_do_not_replace_the_credential(kind, server, shared):
    given = {"X-Team": "blue", "authorization": "Bearer other", "X-API-Key": "other", "Accept": "nothing"}
    await client_of(kind, server, shared, credential="sk-1", headers=given).chat(ask("x"))
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert (sent["x-team"], sent["accept"], sent["content-type"]) == ("blue", "application/json", "application/json")
    assert sent["authorization" if kind == "openai" else "x-api-key"] == ("Bearer sk-1" if kind == "openai" else "sk-1")


@pytest.mark.parametrize("http2", ["Auto", "Disabled"])
async def test_a_certificate_of_an_authority_of_our_own_is_trusted_by_its_bundle_alone(kind, shared, tmp_path, http2):
    authority, bundle = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with llm_server(tls) as server:
        assert (await client_of(kind, server, shared, ca_file=str(bundle), http2=http2).chat(ask("hi"))).text == "echo: hi"
        with pytest.raises(ModelRejected, match=r"its certificate is not trusted .*`caBundle`"):
            await client_of(kind, server, shared, http2=http2).chat(ask("hi"))


async def test_a_bundle_that_is_none_is_told(kind, server, shared, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "gone.pem"):
        with pytest.raises(InvalidTask, match=path.name):
            await client_of(kind, server, shared, ca_file=str(path)).chat(ask("hi"))


async def test_a_wrong_credential_is_refused_with_the_remedy_and_never_shown(kind, server, shared):
    server.behaviour.status = 401
    server.behaviour.body = b'{"error": {"message": "Incorrect API key provided: sk-wrong"}}'
    with pytest.raises(ModelRejected, match=r"Incorrect API key provided: \*\*\*; check the credential that `credentials.secretKeyRef`"):
        await client_of(kind, server, shared, credential="sk-wrong").chat(ask("x"))
