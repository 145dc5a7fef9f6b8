"""What the API server refuses of kopf's lists and watches, on the real kopf in the whole controller."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import ended, node, program, success, task

from agenttask.controller import watch_pace
from agenttask.controller.backoff import Backoff
from agenttask.controller.kube_paths import tasks_path
from agenttask.controller.stream_errors import Refused, survive


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(bookmark_seconds=0.3) as server:
        server.put("nodes", node())
        server.kubelet.auto_run(success)
        yield server


@pytest.mark.parametrize(
    ("what", "status", "times"), [("watch=true", 403, 25), ("limit=", 403, 25), ("watch=true", 410, 1), ("limit=", 410, 2)]
)
async def test_no_answer_to_a_list_or_watch_ends_the_process(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, what: str, status: int, times: int
) -> None:
    monkeypatch.setattr(watch_pace, "RECONNECTS", Backoff(initial=0.01, maximum=0.01))
    async with program(server) as controller:
        server.fail_next("GET", f"/agenttasks.*{what}", status, times=times)  # more often than kopf itself tries
        server.push("agenttasks", b'{"type": "ERROR", "object": {"code": 410}}\n')
        await server.until(lambda: not server._faults._planned)
        server.put("agenttasks", task("after"))
        await ended(server, "after")
        assert not controller.failed.is_set()


async def test_after_a_410_the_watch_brings_everything_anew(server: FakeApiServer) -> None:
    made = server.put("agenttasks", task("a"))
    async with aiohttp.ClientSession(middlewares=(survive,)) as session:
        server.fail_next("GET", "watch=true", 410)
        url = f"{server.url}{tasks_path('default')}?watch=true&resourceVersion=1&fieldSelector=status.phase!%3DFailed"
        async with session.get(url) as answer:
            assert answer.status == 200
            assert made["metadata"]["uid"] in (await answer.content.readline()).decode()

    assert [path for _, path in server.requests][-1].endswith("?watch=true&fieldSelector=status.phase!%3DFailed")


async def test_a_refusal_names_status_and_words(server: FakeApiServer) -> None:
    async with aiohttp.ClientSession(middlewares=(survive,)) as session:
        server.fail_next("GET", "/agenttasks", 403, message="no right here")
        with pytest.raises(Refused, match=r"403 Forbidden: .*no right here"):
            await session.get(server.url + tasks_path("default"))


@pytest.mark.parametrize("status", [401, 429])
async def test_logins_and_the_servers_wish_to_wait_are_kopfs(server: FakeApiServer, status: int) -> None:
    async with aiohttp.ClientSession(middlewares=(survive,)) as session:
        server.fail_next("GET", "/agenttasks", status)
        async with session.get(server.url + tasks_path("default")) as answer:
            assert answer.status == status


async def test_other_requests_keep_their_answers(server: FakeApiServer) -> None:
    async with aiohttp.ClientSession(middlewares=(survive,)) as session, session.get(server.url + "/apis/none/v1") as answer:
        assert answer.status == 404
