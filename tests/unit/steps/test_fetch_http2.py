"""`fetch` over the run's own session, where the server speaks HTTP/2: by the checked address, under the host's name."""

import gzip

import pytest
from tests.fakes.http2_server import Authority, serving
from tests.fakes.step_context import step_context

from agenttask.api.document import Policy
from agenttask.api.errors import OutputTooLarge, ServiceUnavailable
from agenttask.runner.session import SharedSession
from agenttask_steps.fetch import FetchStep
from agenttask_steps.rendered import RenderedFetch


async def loopback(host, port):
    return ["127.0.0.1"]


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
async def session(authority, tmp_path):
    shared = SharedSession()
    yield shared.of(ca_file=authority.write(str(tmp_path / "ca.pem")))
    await shared.aclose()


async def fetch(folder, session, server, **fields):
    context = step_context(folder, policy=Policy(hosts=(f"localhost:{server.port}",)), session=session)
    return await FetchStep(lookup=loopback).run(RenderedFetch(url=f"{server.url}/a?b=c", **fields), context)


async def test_the_name_is_in_the_authority_and_in_tls(authority, session, tmp_path):
    context, names = authority.server_context("h2"), []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def script(request):
        await request.complete.wait()
        await request.answer(b'{"a": 1}', fields=[("content-type", "application/json")])

    async with serving(script, tls=context) as server:
        for _ in range(2):
            output = await fetch(tmp_path, session, server, method="POST", body="x")
    assert (output.json, names, server.seen.connections) == ({"a": 1}, ["localhost"], 1)
    request = server.requests[0]
    assert (request[":authority"], request.path, bytes(request.body)) == (f"localhost:{server.port}", "/a?b=c", b"x")


async def test_an_endless_body_ends_at_the_bound_and_resets_its_stream(authority, session, tmp_path):
    async def script(request):
        request.fields_out()
        while True:
            await request.data_out(b"x" * 16384)

    async with serving(script, tls=authority.server_context("h2")) as server:
        with pytest.raises(OutputTooLarge):
            await fetch(tmp_path, session, server, max_bytes=100_000)
        await server.seen.until(lambda seen: bool(seen.resets))


async def test_a_compressed_bomb_is_bounded(authority, session, tmp_path):
    async def script(request):
        await request.answer(gzip.compress(bytes(64 << 20)), fields=[("content-encoding", "gzip")])

    async with serving(script, tls=authority.server_context("h2")) as server:
        with pytest.raises(OutputTooLarge):
            await fetch(tmp_path, session, server)


async def test_a_stream_that_is_reset_is_worth_a_retry(authority, session, tmp_path):
    async def script(request):
        request.fields_out(fields=[("content-length", "10")])
        request.refuse()

    async with serving(script, tls=authority.server_context("h2")) as server:
        with pytest.raises(ServiceUnavailable):
            await fetch(tmp_path, session, server)
