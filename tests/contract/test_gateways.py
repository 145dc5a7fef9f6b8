"""What a runner may rely on, on the tests' gateway and on the controller's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.fakes.gateway_program import Replica
from tests.fakes.gateway_program import serving as serving_controller
from tests.fakes.gateway_server import TOKEN, FakeGateway, refusal, serving

from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import MAX_RECORD_BYTES, LiveReport, ModelReport, RefusalReason
from agenttask.api.report import StepReport, UsageReport
from agenttask.runner.gateway import client as module
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.errors import Fenced, GatewayRefused, GatewayUnavailable, RecordTooLarge


class Bench:
    """A gateway with a client of each attempt."""

    def __init__(self, document: GatewayDocument, stack: AsyncExitStack) -> None:
        self._document = document
        self._stack = stack
        self.fenced: list[Fenced] = []
        self.token: Callable[[int], str] = lambda _: TOKEN
        self.now_runs: Callable[[int], None] = lambda _: None
        self.follows: Callable[[], None] = lambda: None

    def attempt(self, number: int, token: str | None = None) -> GatewayClient:
        client = GatewayClient(self._document, token or self.token(number), fenced=self.fenced.append)
        self._stack.push_async_callback(client.aclose)
        return client


@pytest.fixture(params=["fake", "controller"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        if request.param == "controller":
            replica = Replica()
            found = Bench(await stack.enter_async_context(serving_controller(replica, tmp_path)), stack)
            found.token, found.now_runs = replica.token, replica.now_runs
            found.follows = lambda: setattr(replica, "leads", False)
        else:
            gateway = FakeGateway()
            found = Bench(await stack.enter_async_context(serving(gateway, host="localhost")), stack)
            found.follows = lambda: gateway.always.update(
                {"127.0.0.1": refusal(503, RefusalReason.NOT_LEADER, "another replica is the leader")}
            )

            def now_runs(attempt: int) -> None:
                """Only a client that was there before is of an earlier attempt."""
                if attempt == 3:
                    gateway.always["127.0.0.1"] = refusal(403, RefusalReason.FENCED, "attempt 3 runs")

            found.now_runs = now_runs
        yield found


REPORT = LiveReport(
    started=1_700_000_000_000,
    steps=(StepReport(0, "S", 5, 7, "ünï", 2, 3, 4), StepReport(1, "R", 12)),
    usage=UsageReport(3, 4, 5, "0.1 USD"),
    models=(ModelReport(name="small", calls=3, call_seconds=1.5, breaker_open_seconds=2.0),),
)


async def test_the_next_attempt_gets_what_the_one_before_has_left(bench: Bench) -> None:
    first = bench.attempt(1)
    await first.keep_checkpoint(b'{"of": 1}', seconds=10)
    await first.keep_checkpoint(b'{"of": "1 too"}', seconds=10)
    bench.now_runs(2)
    second = bench.attempt(2)
    assert await second.checkpoint(seconds=10) == b'{"of": "1 too"}'
    await second.keep_checkpoint(b'{"of": 2}', seconds=10)
    assert await second.checkpoint(seconds=10) == b'{"of": 2}'


async def test_where_nothing_was_left_there_is_nothing(bench: Bench) -> None:
    bench.now_runs(2)
    assert await bench.attempt(2).checkpoint(seconds=10) is None


async def test_a_report_of_all_that_can_be_told_is_taken(bench: Bench) -> None:
    answer = await bench.attempt(1).report(REPORT, seconds=10)
    assert (answer.limits, answer.next_report_seconds >= 1) == ({}, True)


async def test_an_output_is_taken_and_both_together_have_a_bound(bench: Bench) -> None:
    client = bench.attempt(1)
    await client.keep_output("ünï\x00".encode() * 1000, seconds=10)
    with pytest.raises(RecordTooLarge, match=str(MAX_RECORD_BYTES - 5)):
        await client.keep_checkpoint(b"x" * (MAX_RECORD_BYTES - 5), seconds=10)
    await client.keep_checkpoint(b"x" * (MAX_RECORD_BYTES - 6000), seconds=10)


async def test_a_replica_that_does_not_lead_is_no_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORTEST_PAUSE_SECONDS", 3600.0)  # the one answer is waited for, and no second one
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_SECONDS", 3600.0)
    client = bench.attempt(1)
    bench.follows()
    with pytest.raises(GatewayUnavailable, match=r"status 503: another replica is the leader"):
        await client.keep_checkpoint(b"x" * 500_000, seconds=60)


async def test_an_attempt_that_is_over_is_fenced_and_a_stranger_is_not(bench: Bench) -> None:
    client = bench.attempt(1)
    await client.report(REPORT, seconds=10)
    bench.now_runs(3)
    with pytest.raises(Fenced):
        await client.report(REPORT, seconds=10)
    assert len(bench.fenced) == 1


async def test_a_forged_token_is_refused_for_good(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(await stack.enter_async_context(serving_controller(Replica(), tmp_path)), stack)
        with pytest.raises(GatewayRefused, match="status 401"):
            await bench.attempt(1, token="bm9uZQ.bm9uZQ").report(REPORT, seconds=10)
        assert bench.fenced == []
