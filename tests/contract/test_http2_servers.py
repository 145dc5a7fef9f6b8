"""One suite for HTTP/2 on the scripted server, which holds the double honest, and on hypercorn, which others wrote."""

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from tests.fakes.http2_server import Authority, Request, serving

from agenttask.api.document import ModelDocument
from agenttask.plugin.llm import ChatRequest, ClientContext, Message
from agenttask.runner.http_settings import HttpSettings
from agenttask.runner.session import OriginUse, SharedSession
from agenttask_llm import agenttask_llm_clients

Serving = Callable[[Authority, Path], AbstractAsyncContextManager[str]]


async def script(request: Request) -> None:
    """What `application` does, in frames."""
    await request.complete.wait()
    match request.path:
        case "/events":
            request.fields_out(200, [("content-type", "text/event-stream")])
            for number in range(5):
                await request.data_out(b"data: %d\n\n" % number)
            await request.data_out(b"", end=True)
        case "/large":
            await request.answer(b"x" * 5_000_000)
        case "/never":
            await request.reset.wait()
        case "/redirect":
            await request.answer(b"", status=303, fields=[("location", "/echo")])
        case _:
            body = json.dumps(
                {"method": request[":method"], "size": len(request.body), "test": dict(request.fields).get("x-test")}
            ).encode()
            await request.answer(body, fields=[("content-type", "application/json"), ("content-length", str(len(body)))])


async def application(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """An ASGI application of the same answers."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")  # as ASGI wants it said
    assert scope["http_version"] == "2"
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break

    async def answer(status: int, headers: list[tuple[bytes, bytes]], *parts: bytes) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    match scope["path"]:
        case "/events":
            await answer(200, [(b"content-type", b"text/event-stream")], *(b"data: %d\n\n" % number for number in range(5)))
        case "/large":
            await answer(200, [], b"x" * 5_000_000)
        case "/never":
            while (await receive())["type"] != "http.disconnect":
                pass
        case "/redirect":
            await answer(303, [(b"location", b"/echo")])
        case _:
            test = dict(scope["headers"]).get(b"x-test")
            body = json.dumps({"method": scope["method"], "size": size, "test": test and test.decode()}).encode()
            await answer(200, [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())], body)


@contextlib.asynccontextmanager
async def scripted(authority: Authority, _folder: Path) -> AsyncIterator[str]:
    async with serving(script, tls=authority.server_context("h2", "http/1.1")) as server:
        yield server.url


@contextlib.asynccontextmanager
async def hypercorn(authority: Authority, folder: Path) -> AsyncIterator[str]:
    config = Config()
    config.certfile, config.keyfile = authority.write_certificate(str(folder))
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 1
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config.bind = [f"fd://{listening.detach()}"]
    stop = asyncio.Event()
    server = asyncio.create_task(serve(application, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    yield f"https://localhost:{port}"
    stop.set()
    await server


@pytest.fixture(params=[scripted, hypercorn], ids=["scripted", "hypercorn"])
async def origin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[SharedSession, aiohttp.ClientSession, str]]:
    authority = Authority()
    shared = SharedSession(settings=HttpSettings(total_seconds=60))
    async with request.param(authority, tmp_path) as url:
        session = shared.of(ca_file=authority.write(str(tmp_path / "ca.pem")))
        yield shared, session, url
        await shared.aclose()


Origin = tuple[SharedSession, aiohttp.ClientSession, str]


async def test_a_request_arrives_and_its_answer_comes_back_over_http2(origin: Origin) -> None:
    shared, session, url = origin
    async with session.post(url + "/echo", data=b"12345", headers={"X-Test": "é"}) as response:
        assert response.version == aiohttp.HttpVersion(2, 0)
        assert (await response.json())["size"] == 5
    assert shared.use() == {url: OriginUse(protocol="h2", connections=1)}


async def test_many_requests_share_one_connection(origin: Origin) -> None:
    shared, session, url = origin

    async def one(size: int) -> int:
        async with session.post(url + "/echo", data=b"x" * size) as response:
            return int((await response.json())["size"])

    assert await asyncio.gather(*(one(size) for size in range(30))) == list(range(30))
    assert [use.connections for use in shared.use().values()] == [1]


async def test_events_are_streamed(origin: Origin) -> None:
    _shared, session, url = origin
    async with session.get(url + "/events") as response:
        assert [line async for line in response.content if line != b"\n"] == [b"data: %d\n" % number for number in range(5)]


async def test_large_bodies_pass_both_ways(origin: Origin) -> None:
    _shared, session, url = origin
    async with session.get(url + "/large") as response:
        assert len(await response.read()) == 5_000_000
    async with session.put(url + "/echo", data=io.BytesIO(b"y" * 5_000_000)) as response:
        assert await response.json() == {"method": "PUT", "size": 5_000_000, "test": None}


async def test_a_cancelled_and_a_timed_out_request_leave_the_connection_to_others(origin: Origin) -> None:
    shared, session, url = origin
    async with session.get(url + "/echo"):
        pass
    task = asyncio.create_task(session.get(url + "/never").__aenter__())
    with pytest.raises(TimeoutError):
        async with session.get(url + "/never", timeout=aiohttp.ClientTimeout(total=0.3)):
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with session.get(url + "/echo") as response:
        assert response.status == 200
    assert [(use.connections, use.streams) for use in shared.use().values()] == [(1, 0)]


async def test_a_redirect_is_followed_and_head_has_no_body(origin: Origin) -> None:
    _shared, session, url = origin
    async with session.post(url + "/redirect", data=b"x") as response:
        assert (response.status, (await response.json())["method"]) == (200, "GET")
    async with session.head(url + "/echo") as response:
        assert (response.status, await response.read()) == (200, b"")


def test_it_is_the_same_on_uvloop_which_the_runner_uses(tmp_path: Path) -> None:
    async def run() -> None:
        authority = Authority()
        async with serving(script, tls=authority.server_context("h2", "http/1.1")) as server:
            shared = SharedSession(settings=HttpSettings(total_seconds=60))
            session = shared.of(ca_file=authority.write(str(tmp_path / "ca.pem")))
            for test in (
                test_a_request_arrives_and_its_answer_comes_back_over_http2,
                test_many_requests_share_one_connection,
                test_events_are_streamed,
                test_large_bodies_pass_both_ways,
                test_a_cancelled_and_a_timed_out_request_leave_the_connection_to_others,
                test_a_redirect_is_followed_and_head_has_no_body,
            ):
                await test((shared, session, server.url))
            await shared.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_a_models_client_streams_over_http2_without_knowing(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        await request.complete.wait()
        assert (request.path, request["x-tenant"], request["authorization"]) == ("/v1/chat/completions", "blue", "Bearer key")
        request.fields_out(200, [("content-type", "text/event-stream")])
        for word in ("all ", "is ", "well"):
            await request.data_out(b'data: {"model": "m", "choices": [{"delta": {"content": "%s"}}]}\n\n' % word.encode())
        await request.data_out(b'data: {"model": "m", "choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n', end=True)

    authority = Authority()
    async with serving(answer, tls=authority.server_context("h2")) as server:
        shared = SharedSession()
        document = ModelDocument(
            name="remote",
            client="openai",
            model="m",
            endpoint=server.url + "/v1",
            ca_file=authority.write(str(tmp_path / "ca.pem")),
            headers={"X-Tenant": "blue"},
        )
        context = ClientContext(credential="key", session=shared.for_model(document), engines=None)  # type: ignore[arg-type]
        client = agenttask_llm_clients()["openai"](document, context)
        request = ChatRequest(messages=(Message(role="user", content="how is it?"),))
        assert "".join([chunk.text async for chunk in client.stream(request)]) == "all is well"
        assert shared.use() == {server.url: OriginUse(protocol="h2", connections=1)}
        await client.aclose()
        await shared.aclose()
