"""The four requests as a pod sends them, and all that must not get through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from tests.fakes.gateway_desk import Counter, FixedIdentity
from tests.fakes.seen import CREATED, UID, ended, task

from agenttask.api.gateway import (
    CHECKPOINT_PATH,
    MAX_LIVE_REPORT_BYTES,
    MAX_RECORD_BYTES,
    OUTPUT_PATH,
    REPORT_PATH,
    LiveReport,
    ModelReport,
    Refusal,
    ReportAnswer,
    Share,
    encode_live_report,
)
from agenttask.api.model import AgentModelSpec, Limits
from agenttask.api.report import Report, StepReport
from agenttask.api.task import AgentTaskStatus
from agenttask.controller.gateway.rate import BURST
from agenttask.controller.gateway.server import Gateway
from agenttask.controller.gateway.tokens import Tokens
from agenttask.controller.kube_errors import ServerError, TooManyRequests, Unreachable
from agenttask.domain.observation import StoredOutput

PATHS = [("GET", CHECKPOINT_PATH), ("PUT", CHECKPOINT_PATH), ("PUT", OUTPUT_PATH), ("POST", REPORT_PATH)]
REPORT = encode_live_report(LiveReport(started=5, steps=(StepReport(0, "S", 0, 9), StepReport(1, "R", 9))))


class Served:
    """The gateway over plain HTTP; TLS is the listener's."""

    def __init__(self, counter: Counter, url: str) -> None:
        self.counter, self.url = counter, url
        self.leading, self.unready = True, ""
        self.session = aiohttp.ClientSession()

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = "", **headers: str) -> tuple[int, bytes]:
        """Status and body; with the token of attempt 1 unless the test says otherwise."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.counter.token()}"
        async with self.session.request(method, self.url + path, data=body, headers=headers) as response:
            self.retry_after = response.headers.get("Retry-After")
            return response.status, await response.read()

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str, str]:
        """Status, reason and message of a refusal."""
        status, raw = await self.ask(method, path, body, **more)
        told = msgspec.json.decode(raw, type=Refusal)
        return status, told.reason, told.error


@asynccontextmanager
async def serving(*, body_seconds: float = 60) -> AsyncIterator[Served]:
    counter = Counter()
    found = Served(counter, "")
    gateway = Gateway(counter.desk, leading=lambda: found.leading, ready=lambda: found.unready or None, body_seconds=body_seconds)
    runner = web.AppRunner(gateway.application(), access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = "http://{}:{}".format(*runner.addresses[0])
    yield found
    await found.session.close()
    await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as found:
        yield found


async def test_a_checkpoint_goes_from_one_attempt_to_the_next(served: Served) -> None:
    assert await served.ask("PUT", CHECKPOINT_PATH, b"what is done") == (204, b"")
    served.counter.caches.tasks[UID] = task(AgentTaskStatus(ended_attempts=1))
    assert await served.ask("GET", CHECKPOINT_PATH, token=served.counter.token(2)) == (200, b"what is done")


async def test_without_one_the_answer_is_404(served: Served) -> None:
    assert await served.refused("GET", CHECKPOINT_PATH) == (404, "NotFound", "no earlier attempt of this task has left a checkpoint")


async def test_an_output_is_there_for_the_status(served: Served) -> None:
    assert await served.ask("PUT", OUTPUT_PATH, "ä" * 3000) == (204, b"")
    found = await served.counter.desk.stored_output(task(), 1)
    assert found is not None
    assert found.text == "ä" * 3000
    assert served.counter.writer.calls == ["POST"]


async def test_a_report_is_kept_for_the_status_and_answered_with_shares(served: Served) -> None:
    limited = AgentModelSpec(client="openai", model="m", endpoint="http://x", limits=Limits(concurrent_calls=8))
    served.counter.caches.used = {"small": limited}
    models = tuple(ModelReport(name=name, calls=1, call_seconds=4, breaker_open_seconds=30) for name in ("small", "unused"))
    status, raw = await served.ask("POST", REPORT_PATH, encode_live_report(LiveReport(steps=(StepReport(0, "R"),), models=models)))
    assert (status, msgspec.json.decode(raw, type=ReportAnswer)) == (200, ReportAnswer(limits={"small": Share(concurrent_calls=8)}))
    assert served.counter.desk.live(UID, 1) == Report(steps=(StepReport(0, "R"),))
    assert served.counter.woken == [UID]
    health = served.counter.desk.health
    assert (health.open_until("agents", "small"), health.load("agents", "small")) == (CREATED + 30, 2.0)
    assert health.open_until("agents", "unused") is None


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_no_path_answers_without_a_token_that_is_ours(served: Served, method: str, path: str) -> None:
    stranger = Tokens((b"s" * 32,)).issue(FixedIdentity.tokens.read(served.counter.token(), 0))
    for token in (None, stranger, served.counter.token(expires=int(CREATED)), "a" * 8000):
        status, reason, _ = await served.refused(method, path, b"x", token=token)
        assert (status, reason) == (401, "Unauthorized")
    assert (await served.refused(method, path, b"x", token=None, Authorization="Basic eDp5"))[0] == 401
    assert served.counter.writer.calls == []


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_an_attempt_that_is_over_is_stopped_on_every_path(served: Served, method: str, path: str) -> None:
    served.counter.caches.tasks[UID] = task(AgentTaskStatus(ended_attempts=1))
    assert await served.refused(method, path, b"x") == (403, "Fenced", "attempt 1 of agents/review is over")
    served.counter.caches.tasks.clear()
    assert (await served.refused(method, path, b"x"))[0] == 403
    assert served.counter.writer.calls == []


async def test_a_task_that_is_in_no_cache_yet_is_not_taken_for_one_that_is_over(served: Served) -> None:
    served.counter.caches.tasks.clear()
    served.counter.caches.on_server.add(UID)
    assert (await served.refused("PUT", CHECKPOINT_PATH, b"x"))[:2] == (503, "Unavailable")


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_pod_that_has_ended_cannot_replay_its_token(served: Served, method: str, path: str) -> None:
    served.counter.caches.pods[UID] = ended()
    assert (await served.refused(method, path, b"x"))[:2] == (403, "Fenced")


async def test_the_token_of_one_task_reaches_nothing_of_another(served: Served) -> None:
    await served.ask("PUT", OUTPUT_PATH, "mine")
    stranger = served.counter.token(uid="another", task="other")
    assert (await served.refused("PUT", OUTPUT_PATH, b"x", token=stranger))[0] == 403


async def test_a_later_attempt_than_we_know_of_is_to_ask_again(served: Served) -> None:
    assert (await served.refused("GET", CHECKPOINT_PATH, token=served.counter.token(2)))[:2] == (503, "Unavailable")
    assert served.retry_after == "1"


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_follower_sends_to_the_next_address_whoever_asks(served: Served, method: str, path: str) -> None:
    served.leading = False
    assert (await served.refused(method, path, b"x", token=None))[:2] == (503, "NotLeader")
    assert served.retry_after == "1"


async def test_a_replica_that_does_not_know_its_tasks_yet_fences_nobody(served: Served) -> None:
    served.unready = "the first lists are not complete"
    served.counter.caches.tasks.clear()
    status, reason, error = await served.refused("PUT", CHECKPOINT_PATH, b"x")
    assert (status, reason, error) == (503, "Unavailable", "the controller is starting: the first lists are not complete")


@pytest.mark.parametrize(
    ("path", "limit"),
    [(CHECKPOINT_PATH, MAX_RECORD_BYTES), (OUTPUT_PATH, MAX_RECORD_BYTES), (REPORT_PATH, MAX_LIVE_REPORT_BYTES)],
    ids=["checkpoint", "output", "report"],
)
async def test_a_body_over_the_limit_is_refused_with_sizes_before_it_is_read(served: Served, path: str, limit: int) -> None:
    method = "POST" if path == REPORT_PATH else "PUT"
    assert await served.refused(method, path, bytes(limit + 1)) == (
        413,
        "TooLarge",
        f"the body has {limit + 1} bytes, at most {limit} are taken",
    )


async def test_a_body_without_a_length_is_refused_while_it_is_read(served: Served) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(64 * 1024)

    assert (await served.refused("PUT", CHECKPOINT_PATH, endless()))[:2] == (413, "TooLarge")


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with serving(body_seconds=0.1) as served:
        status, reason, error = await served.refused("PUT", CHECKPOINT_PATH, stalling())
    assert (status, reason) == (400, "Malformed")
    assert "did not come within" in error


async def test_a_task_that_sends_slowly_holds_one_place_at_most() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await go_on.wait()

    async with serving() as served:
        sending = asyncio.create_task(served.ask("PUT", CHECKPOINT_PATH, slow()))
        await begun.wait()
        assert (await served.refused("PUT", OUTPUT_PATH, b"more"))[:2] == (429, "Busy")
        go_on.set()
        assert (await sending, await served.ask("PUT", OUTPUT_PATH, b"more")) == ((204, b""), (204, b""))


async def test_one_that_goes_away_in_the_middle_leaves_its_place_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def cut() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await asyncio.Event().wait()

    async with serving() as served:
        sending = asyncio.create_task(served.ask("PUT", CHECKPOINT_PATH, cut()))
        await begun.wait()
        assert (await served.refused("PUT", OUTPUT_PATH, b"more"))[:2] == (429, "Busy")
        sending.cancel()
        async with asyncio.timeout(60):
            while (await served.ask("PUT", OUTPUT_PATH, b"more"))[0] != 204:
                served.counter.now += 1
    assert [line for line in caplog.messages if "Error" in line] == []


async def test_a_compressed_body_is_refused_unread(served: Served) -> None:
    refused = await served.refused("PUT", CHECKPOINT_PATH, b"x", **{"Content-Encoding": "gzip"})
    assert refused == (400, "Malformed", "bodies are taken uncompressed only")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="no JSON"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"steps": [[64, "S"]]}', id="step out of range"),
        pytest.param(b'{"steps": [[0, "X"]]}', id="unknown code"),
        pytest.param(b'{"steps": [[0, "S", ' + b"9" * 400 + b"]]}", id="a time that no clock has"),
        pytest.param(b'{"usage": ["1"]}', id="number as text"),
        pytest.param(b'{"models": [{"name": "m", "callSeconds": 1e300}]}', id="too many seconds"),
        pytest.param(b'{"models": [{"name": "../m"}]}', id="no name of a model"),
        pytest.param(b'{"output": "x"}', id="unknown field"),
        pytest.param(b'{"started": -1}', id="negative time"),
        pytest.param(b'\xff{"steps": []}', id="no UTF-8"),
    ],
)
async def test_a_malformed_report_changes_nothing(served: Served, body: bytes) -> None:
    assert (await served.refused("POST", REPORT_PATH, body))[:2] == (400, "Malformed")
    assert served.counter.desk.live(UID, 1) is None


async def test_bytes_that_are_no_text_are_no_output_and_nothing_is_no_checkpoint(served: Served) -> None:
    assert (await served.refused("PUT", OUTPUT_PATH, b"\xff"))[:2] == (400, "Malformed")
    assert (await served.refused("PUT", CHECKPOINT_PATH, b""))[:2] == (400, "Malformed")
    assert served.counter.writer.calls == []


async def test_an_attempt_that_asks_all_the_time_is_slowed_down(served: Served) -> None:
    statuses = [(await served.ask("POST", REPORT_PATH, REPORT))[0] for _ in range(int(BURST) + 1)]
    assert statuses == [200] * int(BURST) + [429]
    assert served.retry_after == "1"
    served.counter.now += 1
    assert (await served.ask("POST", REPORT_PATH, REPORT))[0] == 200


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        pytest.param(Unreachable("refused"), 503, "Unavailable", id="unreachable"),
        pytest.param(ServerError(500, "InternalError", "broken"), 503, "Unavailable", id="broken"),
        pytest.param(ServerError(500, "InternalError", "etcdserver: request is too large"), 413, "TooLarge", id="etcd's limit"),
        pytest.param(TooManyRequests(429, "TooManyRequests", "busy", retry_after=7), 503, "Unavailable", id="busy"),
    ],
)
async def test_what_the_api_server_says_reaches_the_runner(served: Served, error: Any, status: int, reason: str) -> None:
    served.counter.writer.fail = [error]
    assert (await served.refused("PUT", CHECKPOINT_PATH, b"x"))[:2] == (status, reason)
    assert served.retry_after == {"busy": "7"}.get(getattr(error, "message", ""), "1" if status == 503 else None)
    assert (await served.ask("PUT", CHECKPOINT_PATH, b"x"))[0] == 204


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/other", 404),
        ("DELETE", CHECKPOINT_PATH, 405),
        ("GET", "/v1/../healthz", 404),
        ("HEAD", CHECKPOINT_PATH, 405),
    ],
)
async def test_there_is_nothing_else(served: Served, method: str, path: str, status: int) -> None:
    assert (await served.ask(method, path))[0] == status


async def test_nothing_is_remembered_of_a_task_that_ended_while_its_record_was_written(served: Served) -> None:
    counter = served.counter
    post = counter.writer.create

    async def ends_meanwhile(path: str, body: bytes) -> bytes:
        counter.caches.tasks.clear()
        return await post(path, body)

    counter.writer.create = ends_meanwhile  # type: ignore[method-assign]
    assert (await served.ask("PUT", OUTPUT_PATH, b"x"))[0] == 204
    assert (counter.records._known, counter.records._turns) == ({}, {})


async def test_an_output_stored_before_a_restart_is_read_once(served: Served) -> None:
    await served.ask("PUT", OUTPUT_PATH, "kept")
    served.counter.records.forget(UID)
    for _ in range(2):
        found = await served.counter.desk.stored_output(task(), 1)
        assert found is not None
        assert found == StoredOutput(ref=found.ref, text="kept")
    assert served.counter.writer.calls == ["POST", "GET"]
