"""When an attempt reports: not in its first two seconds, then as the answers say, and only where there is something. In virtual time."""

import asyncio
from collections.abc import Mapping

from tests.fakes.virtual_time import in_virtual_time, loop_time

from agenttask.api.errors import Interrupted
from agenttask.api.gateway import LiveReport, ReportAnswer, Share
from agenttask.api.report import ERROR_MESSAGE_CHARACTERS, MOST_COUNTED, STEP_MESSAGE_CHARACTERS, Report, StepReport, UsageReport
from agenttask.runner.gateway.errors import Fenced, GatewayError, GatewayRefused, GatewayUnavailable
from agenttask.runner.gateway.link import live_report
from agenttask.runner.gateway.live_reports import LiveReports
from agenttask.runner.models import ModelUse


class Bench:
    """Takes reports; `fails` is what the next ones meet."""

    def __init__(self, *, asks: bool = False, **answer: float) -> None:
        self.at: list[float] = []
        self.told: list[LiveReport] = []
        self.shares: list[Mapping[str, Share]] = []
        self.lines: list[str] = []
        self.fails: GatewayError | None = None
        self.answer = ReportAnswer(limits={"m": Share(concurrent_calls=1)}, **answer)
        self.now = LiveReport()
        self.live = LiveReports(
            self,
            snapshot=lambda: self.now,
            share=self.shares.append,
            asks=asks,
            log=lambda about, line: self.lines.append(f"{about}: {line}"),
            rng=lambda: 0.0,
        )

    async def report(self, report: LiveReport, *, seconds: float) -> ReportAnswer:
        assert seconds > 0
        self.at.append(loop_time())
        if self.fails is not None:
            raise self.fails
        self.told.append(report)
        return self.answer

    def step(self, number: int) -> None:
        self.now = LiveReport(steps=tuple(StepReport(index, "S") for index in range(number)))


@in_virtual_time
async def test_a_run_that_ends_within_two_seconds_tells_nothing() -> None:
    bench = Bench(asks=True)
    bench.live.begin(elapsed=0)
    await asyncio.sleep(1.99)
    await bench.live.over()
    await asyncio.sleep(60)
    assert (bench.at, bench.live._task) == ([], None)


@in_virtual_time
async def test_what_happens_between_two_reports_is_told_in_one() -> None:
    bench = Bench(next_report_seconds=4)
    bench.live.begin(elapsed=0.5)
    for number in range(20):
        bench.step(number)
        await asyncio.sleep(0.5)
    await bench.live.over()
    assert (bench.at, [len(report.steps) for report in bench.told]) == ([1.5, 5.5, 9.5], [2, 10, 18])


@in_virtual_time
async def test_where_nothing_has_changed_a_report_a_minute_is_enough() -> None:
    bench = Bench(next_report_seconds=5)
    bench.live.begin(elapsed=0)
    await asyncio.sleep(125)
    assert bench.at == [2, 62, 122]
    await bench.live.over()


@in_virtual_time
async def test_a_task_with_models_asks_for_its_shares_all_the_same() -> None:
    bench = Bench(asks=True, next_report_seconds=5)
    bench.live.begin(elapsed=0)
    await asyncio.sleep(13)
    await bench.live.over()
    assert (bench.at, bench.shares) == ([2, 7, 12], [{"m": Share(concurrent_calls=1)}] * 3)


@in_virtual_time
async def test_no_answer_makes_reports_a_flood_or_the_last() -> None:
    for wish, after in ((-1.0, 1.0), (1e9, 300.0)):
        bench = Bench(asks=True, next_report_seconds=wish)
        began = loop_time()
        bench.live.begin(elapsed=2)
        await asyncio.sleep(after + 0.5)
        await bench.live.over()
        assert [at - began for at in bench.at] == [0, after]


@in_virtual_time
async def test_a_gateway_that_is_away_is_told_once_and_asked_again_and_the_next_report_has_all() -> None:
    bench = Bench(next_report_seconds=5)
    bench.fails = GatewayUnavailable("nobody there")
    bench.live.begin(elapsed=0)
    bench.step(1)
    await asyncio.sleep(8)
    bench.step(2)
    bench.fails = None
    await asyncio.sleep(5)
    await bench.live.over()
    assert (bench.at, bench.lines, len(bench.told[0].steps)) == ([2, 7, 12], ["gateway: no live report: nobody there"], 2)


@in_virtual_time
async def test_what_is_refused_is_not_asked_again_soon() -> None:
    bench = Bench(asks=True)
    bench.fails = GatewayRefused("status 401: expired")
    bench.live.begin(elapsed=0)
    await asyncio.sleep(130)
    await bench.live.over()
    assert (bench.at, bench.lines) == ([2, 62, 122], ["gateway: no live report: status 401: expired"])


@in_virtual_time
async def test_a_run_that_is_over_tells_once_more_when_it_is_asked_to_and_nothing_depends_on_it() -> None:
    bench = Bench(asks=True)
    bench.live.begin(elapsed=0)
    await bench.live.over()
    bench.step(3)
    await bench.live.tell()
    bench.fails = GatewayUnavailable("nobody there")
    await bench.live.tell()
    await asyncio.sleep(60)
    assert (bench.at, [len(report.steps) for report in bench.told]) == ([0, 0], [3])
    assert (bench.shares, bench.lines) == ([], ["gateway: no live report: nobody there"])


@in_virtual_time
async def test_a_fenced_attempt_reports_no_more() -> None:
    bench = Bench(asks=True)
    bench.fails = Fenced("attempt 2 runs")
    bench.live.begin(elapsed=0)
    await asyncio.sleep(600)
    await bench.live.over()
    assert (bench.at, bench.lines, isinstance(bench.fails, Interrupted)) == ([2], [], True)


def test_a_live_report_keeps_to_the_bounds_that_the_controller_reads() -> None:
    report = Report(
        started=5,
        steps=(StepReport(0, "F", message="\udcff" * 9999),),
        usage=UsageReport(1, 10**30, 0, "9" * 9999),
    )
    use = [ModelUse(name=f"m{number}", calls=10**30, seconds=1.23456, breaker_open_seconds=0.0) for number in range(100)]
    found = live_report(report, use)
    assert (found.started, found.steps[0].message) == (5, "?" * (STEP_MESSAGE_CHARACTERS - 1) + "…")
    assert (found.usage.input_tokens, len(found.usage.cost) < ERROR_MESSAGE_CHARACTERS) == (MOST_COUNTED, True)
    assert (len(found.models), found.models[0].calls, found.models[0].call_seconds) == (64, MOST_COUNTED, 1.235)
