"""A run and its gateway: what a short task never asks, what a large output becomes, who ends a fenced attempt, whose steps come back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes.gateway_server import TOKEN, FakeGateway, refusal, serving
from tests.fakes.runner_plugins import Answering, FunctionKind, plugins

from agenttask.api.checkpoint import decode
from agenttask.api.document import GatewayDocument, TaskDocument
from agenttask.api.errors import AgentTaskError, Interrupted, NotHandedOver, OutputRejected, OutputTooLarge, StepFailed
from agenttask.api.gateway import MAX_RECORD_BYTES, RefusalReason, ReportAnswer, Share
from agenttask.api.reasons import Reason
from agenttask.api.report import decode as decode_report
from agenttask.plugin.llm import ChatRequest, Completion, Message
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.runner.checkpoint_writer import Pace
from agenttask.runner.gateway import live_reports
from agenttask.runner.gateway.errors import Fenced, GatewayRefused
from agenttask.runner.gateway.link import GatewayAccess, GatewayLink
from agenttask.runner.observer import NullObserver
from agenttask.runner.places import places
from agenttask.runner.run import Outcome, Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import TerminationFile


class Cluster:
    """One task's attempts, each with a workspace and a termination message of its own, before one gateway."""

    def __init__(self, folder: Path, gateway: FakeGateway, document: GatewayDocument) -> None:
        self.folder = folder
        self.gateway = gateway
        self.document = document
        self.ran: list[str] = []
        self.lines: list[str] = []
        self.go = asyncio.Event()
        self.grace = 5.0
        self.quota = 300.0
        self.running: TaskRun | None = None
        self.answering: type[Answering] = Answering

    def station(self, attempt: int) -> Station:
        async def run(config: dict[str, Any], context: StepContext) -> StepOutput:
            self.ran.append(config["say"])
            for path, content in config.get("files", {}).items():
                await context.files.write_text(path, content)
            if config.get("wait"):
                await self.go.wait()
            if config.get("break") == str(attempt):
                raise Interrupted("the runner was stopped (SIGTERM)")
            if config.get("fail") == str(attempt):
                raise StepFailed("as told")
            if "ask" in config:
                for _ in range(int(config["ask"])):
                    await context.model("m").chat(ChatRequest(messages=(Message(role="user", content="x"),)))
            return StepOutput(text=config["say"] * int(config.get("times", 1)))

        workspace = self.folder / f"workspace-{attempt}"
        for path in (workspace, self.folder / "scratch"):
            path.mkdir(exist_ok=True)
        log = lambda about, line: self.lines.append(f"{about}: {line}")  # noqa: E731
        access = GatewayAccess.of(self.document, TOKEN, attempt=attempt, grace_seconds=self.grace, log=log)
        return Station(
            plugins=plugins(kinds={"do": FunctionKind(run)}, clients={"answering": self.answering}),
            settings=RunnerSettings(),
            places=places(workspace, {}),
            scratch=self.folder / "scratch",
            credentials={},
            observer=NullObserver(),
            channel=TerminationFile(self.folder / f"termination-{attempt}"),
            gateway=msgspec.structs.replace(access, quota_seconds=self.quota),
            log=log,
        )

    async def run(self, *steps: dict[str, Any], attempt: int = 1, **spec: Any) -> Outcome:
        body = {
            "task": {"name": "demo", "namespace": "n", "uid": "u"},
            "attempt": attempt,
            "models": [{"name": "m", "client": "answering", "model": "x"}],
            "spec": {"steps": [{"name": f"s{index}", **step} for index, step in enumerate(steps)], **spec},
        }
        async with TaskRun(msgspec.convert(body, TaskDocument), self.station(attempt)) as self.running:
            return await self.running.execute()

    def report(self, attempt: int = 1) -> Any:
        return decode_report((self.folder / f"termination-{attempt}").read_bytes())

    def asked(self) -> Sequence[str]:
        return [line.partition(" ")[2] for line in self.gateway.asked]


def do(say: str, **config: Any) -> dict[str, Any]:
    keep = {"keepFiles": config.pop("keep")} if "keep" in config else {}
    return {"plugin": {"kind": "do", "with": {"say": say, **config}}, **keep}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is the code under test, which has no event for it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch, *, quiet: float = 60.0) -> AsyncIterator[Cluster]:
    """`quiet` in place of the first two seconds, in which nothing is told: they are longer than any run on the slowest machine."""
    monkeypatch.setattr(live_reports, "FIRST_REPORT_SECONDS", quiet)
    monkeypatch.setattr(GatewayLink, "pace", Pace(pause=0, quiet=quiet, gap=60, when_succeeded=False))
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        yield Cluster(folder, gateway, document)


async def test_a_short_task_never_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        outcome = await it.run(do("one"), do("two", ask="1"))
        failed = await it.run(do("one"), do("two", fail="1"))
        assert (outcome.output, it.report().output, it.gateway.asked, it.lines) == ("two", None, [], [])
        assert isinstance(failed.error, StepFailed)


async def test_a_long_task_reports_and_leaves_no_checkpoint_when_it_has_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_reports, "_SHORTEST_SECONDS", 0.0)
    async with cluster(tmp_path, monkeypatch, quiet=0.02) as it:
        it.gateway.answer = ReportAnswer(next_report_seconds=0.01)
        running = asyncio.create_task(it.run(do("one"), do("two", ask="2"), do("three", wait="yes")))
        await until(lambda: it.gateway.checkpoints and any(len(report.steps) == 3 for report in it.gateway.reports))
        it.go.set()
        outcome = await running
        assert outcome.output == "three"
        assert all(len(decode(raw).steps) < 3 for raw in it.gateway.checkpoints)
        report = next(report for report in it.gateway.reports if len(report.steps) == 3)
        assert [step.code for step in report.steps] == ["S", "S", "R"]
        assert [(model.name, model.calls) for model in report.models] == [("m", 2)]
        assert (report.usage.calls, report.usage.input_tokens, report.started > 10**12) == (2, 6, True)


async def test_a_large_output_is_kept_by_the_gateway_and_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        outcome = await it.run(do("ü", times="3000"))
        report = it.report()
        assert (outcome.output, outcome.error, it.gateway.output) == ("ü" * 3000, None, "ü" * 3000)
        assert (report.done, report.output, report.output_stored, report.error) == (True, None, True, None)
        assert it.asked() == ["PUT /v1/output"]


async def test_the_checkpoint_makes_room_for_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        size = MAX_RECORD_BYTES // 2
        running = asyncio.create_task(it.run(do("a", times=str(size)), do("b", times="300000", wait="yes"), do("c", times=str(size))))
        await until(lambda: it.gateway.checkpoints)
        it.go.set()
        outcome = await running
        assert (outcome.error, it.gateway.output) == (None, "c" * size)
        assert len(it.gateway.checkpoint or b"") + size <= MAX_RECORD_BYTES


async def test_an_attempt_that_takes_all_over_within_two_seconds_makes_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = MAX_RECORD_BYTES // 2
    steps = (do("a", times=str(size), keep=["none"]), do("b", times="5000", **{"break": "1"}))
    output = "{{ steps.s0.text }}{{ steps.s1.text }}"
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        assert isinstance((await it.run(*steps, output=output)).error, Interrupted)
        monkeypatch.setattr(GatewayLink, "pace", Pace(pause=0, quiet=60, gap=60, when_succeeded=False))
        outcome = await it.run(*steps, attempt=2, output=output)
        assert (outcome.error, it.gateway.output) == (None, "a" * size + "b" * 5000)
        assert it.ran == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("size", "act", "told"),
    [
        pytest.param(5000, refusal(503), r"5000 bytes.*took none of it: the gateway did not take PUT /v1/output", id="away"),
        pytest.param(5000, refusal(401, RefusalReason.UNAUTHORIZED, "expired"), "otherwise: status 401: expired", id="expired"),
        pytest.param(MAX_RECORD_BYTES + 1, None, f"{MAX_RECORD_BYTES + 1} bytes, at most {MAX_RECORD_BYTES} are kept", id="too-large"),
        pytest.param(5000, refusal(413, RefusalReason.TOO_LARGE, "the store is small"), "at most .* status 413: the store", id="no-room"),
    ],
)
async def test_an_output_that_cannot_be_kept_fails_the_task_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, act: Any, told: str
) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        if act is not None:
            it.gateway.always["/v1/output"] = act
        if "took none of it" in told:
            it.grace = 0.1  # it is asked all that time
        outcome = await it.run(do("x", times=str(size)))
        kind, reason = (NotHandedOver, Reason.LOST) if "took none of it" in told else (OutputTooLarge, Reason.OUTPUT_TOO_LARGE)
        assert isinstance(outcome.error, kind)
        report = it.report()
        assert (outcome.output, report.output_stored, report.error.reason) == (None, False, reason)
        with pytest.raises(kind, match=told):
            raise outcome.error


FULL = refusal(503, RefusalReason.QUOTA_EXCEEDED, "exceeded quota: few; raise it", Retry_After="0")


async def test_an_output_waits_for_a_quota_of_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        it.gateway.acts["127.0.0.1"].append(FULL)
        outcome = await it.run(do("x", times="5000"))
        assert (outcome.error, it.gateway.output, it.asked()) == (None, "x" * 5000, ["PUT /v1/output", "POST /v1/report", "PUT /v1/output"])
        assert [[step.code for step in report.steps] for report in it.gateway.reports] == [["S"]]
        assert it.lines == ["output: waits for 300 s at most: exceeded quota: few; raise it"]


async def test_a_quota_that_stays_fails_the_task_for_good_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        it.gateway.always["/v1/output"], it.quota = FULL, 0.0
        outcome = await it.run(do("x", times="5000"))
        error = it.report().error
        assert (type(outcome.error), error.reason, it.gateway.output) == (OutputRejected, Reason.OUTPUT_REJECTED, None)
        assert it.asked() == ["PUT /v1/output", "POST /v1/report"]
        assert error.message == (
            "the output has 5000 bytes, more than the pod's own report holds, and was not taken within 0 s: exceeded quota: few; raise it; "
            "or let `output` name a shorter text, or write it to a volume"
        )


async def test_a_run_that_is_stopped_while_it_waits_for_a_quota_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        it.gateway.always["/v1/output"] = FULL
        work = asyncio.create_task(it.run(do("x", times="5000")))
        await until(lambda: it.lines)
        assert it.running is not None
        it.running.stop_within("the runner was stopped (SIGTERM)", 0.0)
        error = it.running.interrupted().error
        assert error is not None
        assert (error.reason, error.message.partition("; ")[2]) == (
            Reason.LOST,
            "its output was not handed over in time: exceeded quota: few; raise it",
        )
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_checkpoint_never_waits_for_a_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        it.gateway.always["/v1/checkpoint"] = FULL
        outcome = await it.run(do("one"), do("two", fail="1"))
        assert isinstance(outcome.error, StepFailed)
        assert it.asked().count("PUT /v1/checkpoint") <= 2  # in the background, and at the end
        assert "checkpoint: not saved: exceeded quota: few; raise it" in it.lines


async def test_a_gateway_that_is_away_fails_no_task_that_does_not_need_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        away = refusal(500, RefusalReason.UNAVAILABLE, "down", Retry_After="100")
        it.gateway.always["127.0.0.1"] = away
        running = asyncio.create_task(it.run(do("one"), do("two", wait="yes"), attempt=1))
        await until(lambda: len(it.lines) >= 2)
        it.go.set()
        assert (await running).output == "two"
        assert sorted(line.partition(" the gateway")[0] for line in it.lines) == ["checkpoint: not saved:", "gateway: no live report:"]


async def test_a_fenced_attempt_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        it.gateway.always["/v1/report"] = refusal(403, RefusalReason.FENCED, "attempt 2 runs")
        outcome = await it.run(do("one", wait="for ever"), do("never"))
        assert isinstance(outcome.error, Fenced)
        assert isinstance(outcome.error, AgentTaskError)
        report = it.report()
        assert (report.error.reason, [step.code for step in report.steps], it.ran) == (Reason.LOST, ["F", "K"], ["one"])
        assert "attempt 2 runs" in report.error.message
        assert it.asked() == ["POST /v1/report"]


async def test_an_attempt_that_is_fenced_before_its_first_step_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, monkeypatch) as it:
        it.gateway.always["/v1/checkpoint"] = refusal(403, RefusalReason.FENCED, "attempt 3 runs")
        outcome = await it.run(do("one"), attempt=2)
        assert (isinstance(outcome.error, Fenced), it.ran, it.asked()) == (True, [], ["GET /v1/checkpoint"])


async def test_the_next_attempt_goes_on_from_what_the_one_before_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (do("one"), do("two", files={"made": "by two"}, keep=["made"]), do("three", **{"break": "1"}), do("four"))
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        monkeypatch.setattr(live_reports, "FIRST_REPORT_SECONDS", 60.0)  # one of the first attempt may reach the gateway after its end
        first = await it.run(*steps)
        assert isinstance(first.error, Interrupted)
        assert it.gateway.checkpoint is not None
        assert [step.name for step in decode(it.gateway.checkpoint).steps] == ["s0", "s1"]
        it.gateway.asked.clear()
        second = await it.run(*steps, attempt=2)
        assert (second.output, it.asked()[0]) == ("four", "GET /v1/checkpoint")
        # A plugin's step may have changed files, and `one` keeps none: it runs again, as `three` needs it.
        assert it.ran == ["one", "two", "three", "one", "three", "four"]
        assert (tmp_path / "workspace-2" / "made").read_text() == "by two"


async def test_shares_of_limits_are_taken_up_while_calls_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = most = 0

    class Slow(Answering):
        async def chat(self, request: ChatRequest) -> Completion:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await until(lambda: len(it.gateway.reports) >= 2)  # the answer to the first one is there: calls are left for what it says
            await asyncio.sleep(0.02)
            running -= 1
            return await super().chat(request)

    monkeypatch.setattr(live_reports, "_SHORTEST_SECONDS", 0.0)
    async with cluster(tmp_path, monkeypatch, quiet=0.0) as it:
        it.answering = Slow
        it.gateway.answer = ReportAnswer(limits={"m": Share(concurrent_calls=0)}, next_report_seconds=0.01)
        waiting = {"needs": [], "forEach": f"{{{{ {list(range(60))} }}}}", "parallelism": 6, **do("ask", ask="1")}
        task = asyncio.create_task(it.run(do("first", wait="yes"), waiting))
        await until(lambda: len(it.gateway.reports) >= 3)
        before = most
        most = 0
        it.gateway.answer = ReportAnswer(limits={"m": Share(concurrent_calls=2)}, next_report_seconds=0.01)
        await until(lambda: most)
        it.go.set()
        outcome = await task
        assert (outcome.error, before <= 6, most) == (None, True, 2)


@pytest.mark.parametrize("token", [None, "", "two\nlines", "ünï", "x" * 2049])
def test_without_a_token_that_is_one_there_is_no_gateway(token: str | None) -> None:
    with pytest.raises(GatewayRefused, match="AGENTTASK_GATEWAY_TOKEN holds no token") as caught:
        GatewayAccess.of(GatewayDocument(url="https://a:1", ca=""), token, attempt=1, grace_seconds=1, log=lambda *_: None)
    assert not token or token not in str(caught.value)


def test_the_token_is_in_no_repr() -> None:
    access = GatewayAccess.of(GatewayDocument(url="https://a:1", ca=""), "secret", attempt=1, grace_seconds=1, log=lambda *_: None)
    assert repr(access) == "GatewayAccess(https://a:1)"
