"""What a new pod gets of the gateway, and what is left of a task that is over."""

import msgspec
import pytest
from tests.fakes.gateway_desk import HOST, KEY, Counter
from tests.fakes.seen import CREATED, UID, spec, task

from agenttask.api.constants import ENV_GATEWAY_TOKEN
from agenttask.api.document import GatewayDocument
from agenttask.api.gateway import LiveReport, ReportAnswer, TokenClaims
from agenttask.api.model import AgentModelSpec, Limits
from agenttask.api.report import StepReport
from agenttask.controller.gateway.desk import LONGEST_REPORT_SECONDS
from agenttask.controller.gateway.record_quota import ASKED_EVERY
from agenttask.controller.gateway.refusals import QuotaExceeded
from agenttask.controller.gateway.tokens import Tokens
from agenttask.controller.handover import NoHandover
from agenttask.controller.kube_errors import Forbidden
from agenttask.domain.observation import SeenTask

MODEL = AgentModelSpec(client="openai", model="m", endpoint="http://x", limits=Limits(concurrent_calls=8))


@pytest.fixture
def counter() -> Counter:
    return Counter()


def of_uid(uid: str) -> SeenTask:
    return msgspec.structs.replace(task(), metadata=msgspec.structs.replace(task().metadata, uid=uid))


def claims(counter: Counter, uid: str = UID) -> TokenClaims:
    counter.caches.tasks[uid] = of_uid(uid)
    return TokenClaims(namespace="agents", task="review", uid=uid, attempt=1, expires=0)


def test_a_pod_is_told_the_address_and_has_a_token_for_all_of_its_time(counter: Counter) -> None:
    entry = counter.desk.enter(task(), spec(), 3, {})
    assert entry.gateway == GatewayDocument(url=f"https://{HOST}:8443", ca="the CA")
    (token,) = entry.variables.values()
    assert entry.variables.keys() == {ENV_GATEWAY_TOKEN}
    read = Tokens((KEY,)).read(token, CREATED)
    assert (read.namespace, read.task, read.uid, read.attempt) == ("agents", "review", UID, 3)
    assert read.expires == CREATED + 60 + 100 + 40 + 600


def test_a_pod_s_models_have_their_share(counter: Counter) -> None:
    counter.desk.enter(task(), spec(), 1, {"small": MODEL})
    entry = counter.desk.enter(of_uid("another"), spec(), 1, {"small": MODEL})
    assert entry.models["small"].limits == Limits(concurrent_calls=4)


def test_without_a_gateway_a_pod_has_neither_and_the_whole_of_the_limits() -> None:
    entry = NoHandover().enter(task(), spec(), 1, {"small": MODEL})
    assert (entry.gateway, entry.variables, entry.models) == (None, {}, {"small": MODEL})


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 5.0), (100, 5.0), (400, 20.0), (2000, LONGEST_REPORT_SECONDS)])
def test_many_attempts_report_more_seldom(counter: Counter, attempts: int, seconds: float) -> None:
    for index in range(attempts - 1):
        counter.desk.report(claims(counter, str(index)), LiveReport())
    assert counter.desk.report(claims(counter), LiveReport()) == ReportAnswer(next_report_seconds=seconds)


def test_a_task_that_is_over_leaves_nothing(counter: Counter) -> None:
    counter.desk.enter(task(), spec(), 1, {"small": MODEL})
    counter.desk.report(claims(counter), LiveReport(steps=(StepReport(0, "R"),)))
    counter.desk.status_written(UID)
    counter.desk.forget(UID)
    assert (counter.desk.live(UID, 1), counter.desk.due(UID)) == (None, float("-inf"))
    assert counter.desk.enter(of_uid("next"), spec(), 1, {"small": MODEL}).models["small"].limits == MODEL.limits


async def test_an_output_that_a_quota_holds_up_is_told_until_it_is_stored(counter: Counter) -> None:
    mine = claims(counter)
    counter.writer.fail = [Forbidden(403, "Forbidden", "exceeded quota: few")]
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            await counter.desk.keep_output(mine, "text")
    assert "exceeded quota: few" in counter.desk.waits_for_record(UID, 1)
    assert (NoHandover().waits_for_record(UID, 1), counter.desk.waits_for_record(UID, 2), counter.woken) == ("", "", [UID])
    counter.now += ASKED_EVERY
    await counter.desk.keep_output(mine, "text")
    assert counter.desk.waits_for_record(UID, 1) == ""


async def test_a_task_that_ended_while_its_output_was_held_up_leaves_nothing(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = claims(counter)

    async def refuse(*_: object) -> None:
        if counter.woken:
            counter.caches.tasks.clear()
        raise QuotaExceeded("full")

    monkeypatch.setattr(counter.records, "put_output", refuse)
    for waits in ("", "full", ""):
        with pytest.raises(QuotaExceeded):
            await counter.desk.keep_output(mine, "text")
        assert counter.desk.waits_for_record(UID, 1) == waits
