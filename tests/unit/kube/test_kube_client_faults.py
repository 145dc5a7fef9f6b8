"""What the client makes of answers that go wrong."""

import asyncio
import socket
from contextlib import aclosing

import aiohttp
import msgspec
import pytest
from tests.fakes.apiserver import FakeApiServer

from agenttask.controller import kube, kube_errors
from agenttask.controller.kube import KubeClient
from agenttask.controller.kube_paths import (
    configmap_path,
    configmaps_path,
    model_path,
    models_path,
    nodes_path,
    pod_path,
    pods_path,
    pvc_path,
    pvcs_path,
    task_path,
    tasks_path,
)

PODS = pods_path("default")


@pytest.mark.parametrize(
    ("status", "reason", "error", "retryable"),
    [
        (400, None, kube_errors.Invalid, False),
        (401, None, kube_errors.Unauthorized, True),
        (403, None, kube_errors.Forbidden, False),
        (404, None, kube_errors.NotFound, False),
        (405, None, kube_errors.KubeError, False),
        (409, None, kube_errors.Conflict, True),
        (409, "AlreadyExists", kube_errors.AlreadyExists, False),
        (410, None, kube_errors.Gone, True),
        (410, "Gone", kube_errors.Gone, True),
        (413, None, kube_errors.Invalid, False),
        (422, None, kube_errors.Invalid, False),
        (429, None, kube_errors.TooManyRequests, True),
        (500, None, kube_errors.ServerError, True),
        (503, None, kube_errors.ServerError, True),
        (504, None, kube_errors.ServerError, True),
    ],
)
async def test_a_status_becomes_a_typed_error(
    server: FakeApiServer, client: KubeClient, status: int, reason: str | None, error: type[kube_errors.KubeError], retryable: bool
) -> None:
    server.fail_next("GET", "/pods/a", status, reason=reason, message="because")

    with pytest.raises(kube_errors.KubeError) as raised:
        await client.get(pod_path("default", "a"))

    assert (type(raised.value), raised.value.status, raised.value.message) == (error, status, "because")
    assert raised.value.retryable is retryable
    assert str(status) in str(raised.value)


async def test_retry_after_is_handed_on(server: FakeApiServer, client: KubeClient) -> None:
    server.fail_next("POST", "/pods", 429, retry_after=7)

    with pytest.raises(kube_errors.TooManyRequests) as raised:
        await client.create(PODS, b"{}")

    assert raised.value.retry_after == 7


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ("3", b'{"details": {"retryAfterSeconds": 9}}', 3.0),
        (None, b'{"details": {"retryAfterSeconds": 9}}', 9.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", b"{}", None),
        (None, b'{"details": {}}', None),
    ],
)
def test_the_wish_is_in_the_header_or_in_the_body(header: str | None, body: bytes, expected: float | None) -> None:
    error = kube_errors.from_answer(429, body, retry_after=header)

    assert isinstance(error, kube_errors.TooManyRequests)
    assert error.retry_after == expected


def test_a_proxys_page_is_shown_in_part() -> None:
    error = kube_errors.from_answer(502, b"<html>" + b"x" * 10_000)

    assert isinstance(error, kube_errors.ServerError)
    assert str(error).startswith("502 Unknown: <html>xxx")
    assert len(str(error)) < 600


async def test_a_broken_connection_leaves_the_outcome_open(server: FakeApiServer, client: KubeClient) -> None:
    server.fail_next("POST", "/pods", 0, after_commit=True)

    with pytest.raises(kube_errors.Unreachable) as raised:
        await client.create(PODS, b'{"metadata": {"name": "a"}}')

    assert raised.value.retryable
    assert server.get("pods", "a") is not None


async def test_a_late_answer_is_unreachable(server: FakeApiServer) -> None:
    server.fail_next("GET", "/pods", 200, delay=5)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(kube_errors.Unreachable, match=r"GET .*TimeoutError"):
            await KubeClient(session, server.url, request_timeout=0.05).get(PODS)


async def test_nobody_listening_is_unreachable(server: FakeApiServer, client: KubeClient) -> None:
    with socket.socket() as ours:  # and nobody listens on it
        ours.bind(("127.0.0.1", 0))
        client = KubeClient(client._session, f"http://127.0.0.1:{ours.getsockname()[1]}")
        with pytest.raises(kube_errors.Unreachable, match="Cannot connect"):
            await client.get(PODS)
        with pytest.raises(kube_errors.Unreachable, match="watch of"):
            await anext(client.watch(PODS, resource_version="1"))


async def test_a_silent_watch_ends_by_itself(server: FakeApiServer, impatient: KubeClient) -> None:
    lines = [line async for line in impatient.watch(PODS, resource_version=str(server.store.version))]

    assert lines == []


async def test_a_line_of_two_megabytes_arrives_whole(server: FakeApiServer, client: KubeClient) -> None:
    async with aclosing(client.watch(PODS, resource_version=str(server.store.version))) as lines:
        first = asyncio.ensure_future(anext(lines))
        await server.until(lambda: len(server.watches))
        server.put("pods", {"metadata": {"name": "a", "annotations": {"big": "x" * (2 << 20)}}})
        server.put("pods", {"metadata": {"name": "b"}})
        big, small = await first, await anext(lines)

    assert len(msgspec.json.decode(big)["object"]["metadata"]["annotations"]["big"]) == 2 << 20
    assert msgspec.json.decode(small)["object"]["metadata"]["name"] == "b"


async def test_a_line_without_end_is_no_watch(server: FakeApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "MAX_LINE_BYTES", 1000)
    reading = asyncio.ensure_future(anext(client.watch(PODS, resource_version=str(server.store.version))))
    await server.until(lambda: len(server.watches))
    server.push("pods", b"x" * 2000)

    with pytest.raises(kube_errors.Unreachable, match="more than 1000 bytes"):
        await reading


async def test_a_watch_that_breaks_in_mid_line_says_so(server: FakeApiServer, client: KubeClient) -> None:
    reading = asyncio.ensure_future(anext(client.watch(PODS, resource_version=str(server.store.version))))
    await server.until(lambda: len(server.watches))
    server.drop_watches(rest=b'{"type": "ADD')

    with pytest.raises(kube_errors.Unreachable):
        await reading


async def test_a_watch_can_be_refused(server: FakeApiServer, client: KubeClient) -> None:
    server.fail_next("GET", "watch=true", 429, retry_after=2)

    with pytest.raises(kube_errors.TooManyRequests):
        await anext(client.watch(PODS, resource_version="1"))


def test_paths_are_those_of_the_api() -> None:
    assert [
        pods_path(None),
        pod_path("a", "b"),
        tasks_path("a"),
        task_path("a", "b"),
        models_path(None),
        model_path("a", "b"),
        nodes_path(),
        configmaps_path("a"),
        configmap_path("a", "b"),
        pvcs_path("a"),
        pvc_path("a", "b"),
    ] == [
        "/api/v1/pods",
        "/api/v1/namespaces/a/pods/b",
        "/apis/agenttask.dev/v1alpha1/namespaces/a/agenttasks",
        "/apis/agenttask.dev/v1alpha1/namespaces/a/agenttasks/b",
        "/apis/agenttask.dev/v1alpha1/agentmodels",
        "/apis/agenttask.dev/v1alpha1/namespaces/a/agentmodels/b",
        "/api/v1/nodes",
        "/api/v1/namespaces/a/configmaps",
        "/api/v1/namespaces/a/configmaps/b",
        "/api/v1/namespaces/a/persistentvolumeclaims",
        "/api/v1/namespaces/a/persistentvolumeclaims/b",
    ]
