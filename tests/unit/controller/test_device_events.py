"""What a node says of a claimed device that it does not prepare: read from events, late and seldom."""

import json
from typing import Any

import pytest
from tests.fakes.seen import CREATED, UID, pod

from agenttask.controller.device_events import DeviceEvents
from agenttask.controller.kube_errors import Forbidden, KubeError, Unreachable
from agenttask.domain.observation import SeenPod

SINCE = CREATED + 1


class Events:
    """An API server that has events, and of it only what is asked here."""

    def __init__(self, *items: dict[str, Any], refuses: KubeError | None = None) -> None:
        self.items, self.refuses = items, refuses
        self.asked: list[str] = []

    async def get(self, path: str) -> bytes:
        self.asked.append(path)
        if self.refuses is not None:
            raise self.refuses
        return json.dumps({"items": self.items}).encode()

    async def create(self, path: str, body: bytes) -> bytes:
        raise AssertionError(path)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> None:
        raise AssertionError(path)

    async def patch_status(self, path: str, body: bytes) -> bytes:
        raise AssertionError(path)


def event(message: str, **times: str) -> dict[str, Any]:
    return {"message": f"Failed to prepare dynamic resources: prepare dynamic resources: {message}", **times}


def silent(**fields: Any) -> SeenPod:
    return pod(unprepared_since=SINCE, **fields)


async def ask(devices: DeviceEvents, one: SeenPod, after: float) -> str | None:
    return (await devices.completed(UID, "agents", one, SINCE + after)).unprepared


async def test_the_last_event_of_the_pod_is_the_reason() -> None:
    server = Events(
        event("first", lastTimestamp="2027-01-15T08:00:01Z"),
        event("last", lastTimestamp="2027-01-15T08:00:09Z"),
        event("between", eventTime="2027-01-15T08:00:05.000000Z"),
    )

    assert await ask(DeviceEvents(server), silent(), 2) == "last"
    assert server.asked == [
        "/api/v1/namespaces/agents/events?fieldSelector=involvedObject.uid=pod-uid,reason=FailedPrepareDynamicResources&limit=16"
    ]


async def test_a_pod_that_starts_as_usual_costs_nothing() -> None:
    server = Events(event("x"))
    devices = DeviceEvents(server)

    assert await ask(devices, silent(), 1.9) is None
    assert await ask(devices, pod(), 60) is None
    assert server.asked == []


async def test_it_is_asked_every_ten_seconds_at_most_and_anew_for_another_pod() -> None:
    server = Events()
    devices = DeviceEvents(server)
    assert await ask(devices, silent(), 2) is None
    server.items = (event("x"),)

    assert [await ask(devices, silent(), after) for after in (3, 11.9, 12, 13)] == [None, None, "x", "x"]
    assert len(server.asked) == 2
    await ask(devices, silent(uid="another"), 14)
    assert len(server.asked) == 3


async def test_what_was_said_is_forgotten_when_the_node_is_through_or_the_task_is_over() -> None:
    server = Events(event("x"))
    devices = DeviceEvents(server)
    await ask(devices, silent(), 2)

    assert await ask(devices, pod(), 3) is None
    assert await ask(devices, silent(), 4) == "x"
    devices.forget(UID)
    await ask(devices, silent(), 5)
    assert len(server.asked) == 3


async def test_where_events_cannot_be_read_the_task_goes_on_without(caplog: pytest.LogCaptureFixture) -> None:
    devices = DeviceEvents(Events(refuses=Forbidden(403, "Forbidden", "events is forbidden")))

    assert await ask(devices, silent(), 2) is None
    assert "its events cannot be read: 403 Forbidden: events is forbidden" in caplog.text


async def test_what_a_node_said_holds_while_events_cannot_be_read() -> None:
    """Else a pod whose class is given up would be left, or waited for as that of a lost node."""
    server = Events(event("x"))
    devices = DeviceEvents(server)
    await ask(devices, silent(), 2)
    server.refuses = Unreachable("GET: reset")

    assert await ask(devices, silent(), 12) == "x"
    assert await ask(devices, silent(uid="another"), 13) is None
    server.refuses, server.items = None, ()
    assert await ask(devices, silent(), 14) is None
    assert len(server.asked) == 4


async def test_a_long_message_is_cut() -> None:
    assert await ask(DeviceEvents(Events(event("x" * 100_000))), silent(), 2) == "x" * 1023 + "…"
