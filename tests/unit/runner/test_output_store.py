"""A run and the object store: what goes there and what does not, what the report says, and how each failure ends the task."""

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes.gateway_server import TOKEN, FakeGateway, refusal, serving
from tests.fakes.object_store import MemoryObjects
from tests.fakes.runner_plugins import FunctionKind, plugins

from agenttask.api.constants import MAX_RENDERED_BYTES
from agenttask.api.document import OutputStoreDocument, TaskDocument
from agenttask.api.errors import AgentTaskError, NotHandedOver, OutputRejected, OutputTooLarge
from agenttask.api.gateway import MAX_RECORD_BYTES, RefusalReason
from agenttask.api.reasons import Reason
from agenttask.api.report import ObjectReport, Report
from agenttask.api.report import decode as decode_report
from agenttask.domain.rendering import render
from agenttask.domain.utf8 import utf8_length
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.runner import output_store, task_output, termination
from agenttask.runner.checkpoint_writer import Pace
from agenttask.runner.gateway.client import GatewayClient
from agenttask.runner.gateway.errors import Fenced, GatewayUnavailable
from agenttask.runner.gateway.link import GatewayAccess, GatewayLink
from agenttask.runner.observer import NullObserver
from agenttask.runner.output_store import OutputStore
from agenttask.runner.places import places
from agenttask.runner.run import Outcome, Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import TerminationFile

MIB = 1 << 20
KEY = "agents/review/7c1f/attempt-3/output"
DOCUMENT = {"url": "s3://outputs/x", "maxBytes": 3 * MIB}


class Pod:
    """One attempt with its termination message, a store in memory, and a gateway or none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects = MemoryObjects()
        self.lines: list[str] = []
        self.gateway: GatewayAccess | None = None
        self.running: TaskRun | None = None

    def has_gateway(self, document: Any, *, grace: float = 5.0) -> None:
        self.gateway = GatewayAccess.of(document, TOKEN, attempt=3, grace_seconds=grace, log=self.log)

    def log(self, about: str, line: str) -> None:
        self.lines.append(f"{about}: {line}")

    def station(self, texts: Sequence[str]) -> Station:
        async def say(config: dict[str, Any], _context: StepContext) -> StepOutput:
            return StepOutput(text=texts[int(config["which"])])

        for name in ("workspace", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        return Station(
            plugins=plugins(kinds={"say": FunctionKind(say)}),
            settings=RunnerSettings(),
            places=places(self.folder / "workspace", {}),
            scratch=self.folder / "scratch",
            credentials={},
            observer=NullObserver(),
            channel=TerminationFile(self.folder / "termination"),
            gateway=self.gateway,
            objects=self.objects,
            log=self.log,
        )

    async def run(self, *texts: str, store: dict[str, Any] | None = DOCUMENT, **spec: Any) -> Outcome:
        steps = [{"name": f"s{index}", "plugin": {"kind": "say", "with": {"which": str(index)}}} for index in range(len(texts))]
        body = {
            "task": {"name": "review", "namespace": "agents", "uid": "7c1f"},
            "attempt": 3,
            "spec": {"steps": steps, **spec},
            "outputStore": store,
        }
        async with TaskRun(msgspec.convert(body, TaskDocument), self.station(texts)) as run:
            self.running = run
            return await run.execute()

    def report(self) -> Report:
        return decode_report((self.folder / "termination").read_bytes())


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


async def test_a_small_output_is_in_the_report_and_nowhere_else(pod: Pod) -> None:
    assert (await pod.run("small")).output == "small"
    assert (pod.report().output, pod.report().output_object, pod.objects.kept) == ("small", None, {})


async def test_without_a_gateway_what_the_report_has_no_room_for_goes_to_the_store(pod: Pod) -> None:
    text = "ü" * 3000
    outcome = await pod.run(text)
    at = ObjectReport(f"s3://outputs/x/{KEY}", 6000, hashlib.sha256(text.encode()).hexdigest())
    assert (outcome.output, outcome.error, pod.objects.kept) == (text, None, {KEY: text.encode()})
    assert pod.lines == [f"output: 6000 bytes to s3://outputs/x/{KEY}"]
    report = pod.report()
    assert (report.done, report.output, report.output_stored, report.output_object, report.error) == (True, None, False, at, None)


async def test_what_a_record_takes_goes_to_the_gateway_and_what_is_larger_to_the_store(pod: Pod) -> None:
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        pod.has_gateway(document)
        await pod.run("x" * MAX_RECORD_BYTES)
        assert (len(gateway.output or ""), pod.objects.kept, pod.report().output_stored) == (MAX_RECORD_BYTES, {}, True)
        gateway.asked.clear()
        await pod.run("x" * (MAX_RECORD_BYTES + 1))
    assert [line for line in gateway.asked if "output" in line] == []
    assert (len(pod.objects.kept[KEY]), pod.report().output_stored) == (MAX_RECORD_BYTES + 1, False)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(refusal(503), id="away"),
        pytest.param(refusal(401, RefusalReason.UNAUTHORIZED, "expired"), id="refuses"),
        pytest.param(refusal(413, RefusalReason.TOO_LARGE, "the store is small"), id="has no room"),
        pytest.param(refusal(503, RefusalReason.QUOTA_EXCEEDED, "exceeded quota"), id="has no quota"),
    ],
)
async def test_what_the_gateway_does_not_take_goes_to_the_store(pod: Pod, act: Any) -> None:
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        pod.has_gateway(document, grace=0.1)
        gateway.always["/v1/output"] = act
        outcome = await pod.run("x" * 5000)
    assert (outcome.error, len(pod.objects.kept[KEY])) == (None, 5000)
    assert [line for line in pod.lines if line.startswith("output: to the object store, as the gateway has not taken it: ")]


async def test_the_checkpoint_stays_whole_where_the_store_is_tried_after_a_full_record(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is away loses the attempt: the next one goes on from what the checkpoint holds."""
    monkeypatch.setattr(GatewayLink, "pace", Pace(pause=0, quiet=0, gap=0, when_succeeded=False))
    pod.objects.problem = NotHandedOver("500 for minutes")
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        pod.has_gateway(document)
        gateway.always["/v1/output"] = refusal(413, RefusalReason.TOO_LARGE, "escapes count")
        outcome = await pod.run("dear " * 1000)
    assert outcome.error is pod.objects.problem
    assert "dear dear" in (gateway.checkpoint or b"").decode()
    assert len([line for line in gateway.asked if line.endswith("/v1/output")]) == 1


@pytest.mark.parametrize(
    ("act", "kind"),
    [(refusal(503), NotHandedOver), (refusal(413, RefusalReason.TOO_LARGE, "the store is small"), OutputRejected)],
    ids=["the gateway is away", "the gateway refuses"],
)
async def test_a_store_that_refuses_takes_no_try_from_a_gateway_that_is_away(pod: Pod, act: Any, kind: type[AgentTaskError]) -> None:
    pod.objects.problem = OutputRejected("403: no; check the key")
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        pod.has_gateway(document, grace=0.1 if kind is NotHandedOver else 60.0)  # one that is away is asked all that time
        gateway.always["/v1/output"] = act
        outcome = await pod.run("x" * 5000)
    assert type(outcome.error) is kind
    assert str(outcome.error).endswith("403: no; check the key")


async def test_where_a_quota_and_the_store_refuse_both_are_told(pod: Pod) -> None:
    pod.objects.problem = OutputRejected("403: no; check the key")
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        pod.has_gateway(document)
        gateway.always["/v1/output"] = refusal(503, RefusalReason.QUOTA_EXCEEDED, "exceeded quota: few; raise it")
        outcome = await pod.run("x" * 5000)
    assert type(outcome.error) is OutputRejected
    assert str(outcome.error) == (
        "the output has 5000 bytes, more than the pod's own report holds, and was not taken: exceeded quota: few; raise it; "
        "or let `output` name a shorter text, or write it to a volume; nor has the object store: 403: no; check the key"
    )
    assert len([line for line in gateway.asked if line.endswith("/v1/output")]) == 1


@pytest.mark.parametrize(("store", "given"), [(DOCUMENT, 15.0), (None, 30.0)], ids=["a store", "none"])
async def test_a_gateway_that_is_away_leaves_the_store_half_of_a_stopped_runners_time(
    pod: Pod, store: dict[str, Any] | None, given: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def away(_client: GatewayClient, _output: bytes, *, seconds: float) -> None:
        asked.append(seconds)
        raise GatewayUnavailable("nobody")

    monkeypatch.setattr(GatewayClient, "keep_output", away)
    async with serving(FakeGateway(), host="localhost") as document:
        pod.has_gateway(document, grace=30.0)
        await pod.run("x" * 5000, store=store)
    assert (asked, len(pod.objects.kept)) == ([given], 1 if store else 0)


async def test_a_fenced_attempt_leaves_nothing(pod: Pod) -> None:
    gateway = FakeGateway()
    async with serving(gateway, host="localhost") as document:
        pod.has_gateway(document)
        gateway.always["/v1/output"] = refusal(403, RefusalReason.FENCED, "attempt 4 runs")
        outcome = await pod.run("x" * 5000)
    assert (isinstance(outcome.error, Fenced), pod.objects.kept) == (True, {})


async def test_an_output_of_several_steps_may_be_as_large_as_the_store_takes(pod: Pod) -> None:
    texts = ["ab" * (MIB // 2), "c" * MIB, "ü"]
    outcome = await pod.run(*texts, output="{{ steps.s0.text }}{{ steps.s1.text }}{{ steps.s2.text }}")
    assert outcome.error is None
    assert pod.objects.kept == {KEY: "".join(texts).encode()}


@pytest.mark.parametrize("store", [DOCUMENT, None], ids=["a store", "none"])
async def test_what_may_be_rendered_into_much_is_rendered_beside_the_loop(
    pod: Pod, store: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    on: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        on.append(threading.get_ident())
        return render(*arguments, **options)

    monkeypatch.setattr(task_output, "render", watched)
    outcome = await pod.run("a", store=store, output="{{ steps.s0.text }}b")
    assert (outcome.output, [each == threading.get_ident() for each in on]) == ("ab", [store is None])


async def test_a_large_output_is_counted_beside_the_loop(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    on: list[int] = []

    def watched(text: str) -> int:
        on.append(threading.get_ident())
        return utf8_length(text)

    monkeypatch.setattr(termination, "utf8_length", watched)
    texts = ["ü" * (MIB // 2), "b" * MIB]
    outcome = await pod.run(*texts, output="{{ steps.s0.text }}{{ steps.s1.text }}")
    assert (outcome.error, len(on), threading.get_ident() in on) == (None, 1, False)


async def test_a_large_output_has_more_time(pod: Pod) -> None:
    pod.objects.held = asyncio.Event()
    task = msgspec.convert({"task": {"name": "review", "namespace": "agents", "uid": "7c1f"}, "spec": {"steps": [STEP]}}, TaskDocument)
    store = OutputStore(task, OutputStoreDocument(url="s3://outputs"), pod.objects, seconds=-1.02)
    with pytest.raises(NotHandedOver):
        await store.keep(b"abc")
    asyncio.get_running_loop().call_later(0.02, pod.objects.held.set)
    assert (await store.keep(b"x" * 3_000_000)).size == 3_000_000


async def test_without_a_store_it_is_rendered_as_far_as_ever(pod: Pod) -> None:
    outcome = await pod.run("a" * MIB, "b", store=None, output="{{ steps.s0.text }}{{ steps.s1.text }}")
    assert isinstance(outcome.error, OutputTooLarge)
    assert f"more than {MAX_RENDERED_BYTES} bytes" in str(outcome.error)


async def test_an_output_is_never_larger_than_the_installation_allows(pod: Pod) -> None:
    outcome = await pod.run("a" * 5000, store={**DOCUMENT, "maxBytes": 4999})
    assert isinstance(outcome.error, OutputTooLarge)
    assert str(outcome.error).startswith("the output has 5000 bytes, at most 4999 are kept in s3://outputs/x (outputStore.maxBytes); let")
    assert pod.objects.kept == {}


@pytest.mark.parametrize(
    ("problem", "reason"),
    [(OutputRejected("403: no; check the key"), Reason.OUTPUT_REJECTED), (NotHandedOver("500 for minutes"), Reason.LOST)],
)
async def test_a_store_that_does_not_take_it_fails_the_attempt_with_its_words(pod: Pod, problem: AgentTaskError, reason: Reason) -> None:
    pod.objects.problem = problem
    outcome = await pod.run("x" * 5000)
    error = pod.report().error
    assert (outcome.output, outcome.error, pod.report().output_object) == (None, problem, None)
    assert error is not None
    assert (error.reason, error.message) == (reason, str(problem))


async def test_a_store_that_says_nothing_is_not_waited_for_without_end(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.objects.held = asyncio.Event()
    task = msgspec.convert({"task": {"name": "review", "namespace": "agents", "uid": "7c1f"}, "spec": {"steps": [STEP]}}, TaskDocument)
    store = OutputStore(task, OutputStoreDocument(url="s3://outputs"), pod.objects, seconds=0.02)
    with pytest.raises(NotHandedOver, match=r"\(3 bytes\) was not taken by s3://outputs/agents/review/7c1f/attempt-1/output within 0 s"):
        await store.keep(b"abc")
    assert output_store.HAND_OVER_SECONDS == 300


async def test_a_stopped_run_still_hands_over_in_the_time_that_it_has(pod: Pod) -> None:
    pod.objects.held = asyncio.Event()
    running = asyncio.create_task(pod.run("x" * 5000))
    await pod.objects.asked.wait()
    assert pod.running is not None
    pod.running.stop_within("the runner was stopped (SIGTERM)", 0.0)
    await asyncio.sleep(0.02)
    pod.objects.held.set()
    outcome = await running
    assert (outcome.error, pod.report().output_object is not None) == (None, True)


async def test_a_stopped_run_whose_time_is_over_says_what_it_was_at(pod: Pod) -> None:
    pod.objects.held = asyncio.Event()
    running = asyncio.create_task(pod.run("x" * 5000))
    await pod.objects.asked.wait()
    assert pod.running is not None
    pod.running.stop_within("the runner was stopped (SIGTERM)", 0.0)
    error = pod.running.interrupted().error
    assert error is not None
    assert (error.reason, error.message) == (Reason.LOST, "the runner was stopped (SIGTERM); its output was not handed over in time")
    running.cancel()


@pytest.mark.parametrize("text", ["small", "x" * 5000], ids=["in the report", "in the store"])
async def test_a_run_that_is_stopped_while_it_closes_keeps_the_report_that_it_has_written(pod: Pod, text: str) -> None:
    await pod.run(text)
    assert pod.running is not None
    pod.running.stop_within("the runner was stopped (SIGTERM)", 0.0)
    assert (pod.running.interrupted(), pod.running.interrupted().error) == (pod.report(), None)


STEP = {"name": "s", "read": {"paths": ["a"]}}
