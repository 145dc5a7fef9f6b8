"""A namespace whose quota takes no further record: said in the quota's words, and not asked of the API server by every attempt."""

import asyncio
from typing import Any

import pytest
from tests.fakes.apiserver_store import Store
from tests.fakes.store_writer import StoreWriter

from agenttask.api.gateway import TokenClaims
from agenttask.controller.gateway.records import Records
from agenttask.controller.gateway.refusals import QuotaExceeded, Unavailable
from agenttask.controller.kube_errors import Forbidden

COUNTED = "count/agenttaskrecords.agenttask.dev"
SAID = f"exceeded quota: records, requested: {COUNTED}=1, used: {COUNTED}=3, limited: {COUNTED}=3"
REFUSAL = f'agenttaskrecords.agenttask.dev "a" is forbidden: {SAID}'
TOLD = (
    f"the namespace has no room for the task's AgentTaskRecord: {SAID}; "
    "raise it, or delete finished tasks (ttlSecondsAfterFinished does): their records go with them"
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(StoreWriter):
    """`answers` holds each POST back until it is set."""

    def __init__(self) -> None:
        super().__init__(Store())
        self.answers = asyncio.Event()
        self.answers.set()

    async def create(self, path: str, body: bytes) -> bytes:
        answer = await super().create(path, body)
        await self.answers.wait()
        return answer


class Place:
    """Records over a store; `writer.fail` are errors to raise, `writer.calls` what was asked."""

    def __init__(self) -> None:
        self.clock, self.writer = Clock(), Slow()
        self.records = Records(self.writer, self.clock)

    async def put(self, uid: str, namespace: str = "agents", body: bytes = b"x") -> None:
        claims = TokenClaims(namespace=namespace, task=uid, uid=uid, attempt=1, expires=0)
        await self.records.put_checkpoint(claims, body)


@pytest.fixture
def place() -> Place:
    return Place()


def full() -> list[Any]:
    return [Forbidden(403, "Forbidden", REFUSAL)]


async def test_a_quota_that_is_used_up_is_asked_once_in_some_seconds_whoever_stores(place: Place) -> None:
    place.writer.fail = full()
    for uid in "abc":
        with pytest.raises(QuotaExceeded) as refused:
            await place.put(uid)
        assert (str(refused.value), refused.value.retry_after) == (TOLD, 5.0)
    assert place.writer.calls == ["POST"]
    place.clock.now += 5
    for uid in "abc":
        await place.put(uid)
    assert place.writer.calls == ["POST"] * 4


async def test_of_those_who_come_together_one_asks_whether_there_is_room_by_now(place: Place) -> None:
    place.writer.fail = full()
    with pytest.raises(QuotaExceeded):
        await place.put("a")
    place.clock.now += 5
    place.writer.answers.clear()
    asking = [asyncio.create_task(place.put(uid)) for uid in "abcd"]
    await asyncio.sleep(0)
    place.writer.answers.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in answers] == [type(None), QuotaExceeded, QuotaExceeded, QuotaExceeded]
    assert place.writer.calls == ["POST"] * 2
    await place.put("b")
    assert place.writer.calls == ["POST"] * 3


async def test_records_that_are_there_and_other_namespaces_are_written_on(place: Place) -> None:
    await place.put("there")
    place.writer.fail = full()
    with pytest.raises(QuotaExceeded):
        await place.put("a")
    await place.put("there", body=b"y")
    await place.put("b", namespace="other")
    assert place.writer.calls == ["POST", "POST", "PATCH", "POST"]


async def test_a_right_that_is_missing_is_no_quota(place: Place) -> None:
    place.writer.fail = [Forbidden(403, "Forbidden", "cannot create resource")]
    with pytest.raises(Unavailable) as refused:
        await place.put("a")
    assert refused.value.retry_after == 1.0
    await place.put("a")
    assert place.writer.calls == ["POST", "POST"]
