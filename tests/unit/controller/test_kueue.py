"""Kueue pass-through: what the pod of a labelled task has, and its life while somebody else holds it back."""

import json
from typing import Any

import msgspec
import pytest
from tests.fakes import seen
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.controller_program import ended, node, phase, program, said, task

from agenttask.api.errors import PodRejected
from agenttask.api.task import DeviceStatus
from agenttask.controller.installation import Installation
from agenttask.controller.kueue import GATE, MANAGED_LABEL, PRIORITY_LABEL, QUEUE_LABEL
from agenttask.controller.pod import PodRequest, build
from agenttask.controller.verify import verify

INSTALLATION = Installation()
LABELLED = {QUEUE_LABEL: "team", PRIORITY_LABEL: "high", "other": "x"}


def pod(labels: dict[str, str]) -> dict[str, Any]:
    one = seen.task()
    labelled = msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, labels=labels))
    request = PodRequest(
        task=labelled,
        spec=seen.spec(),
        attempt=1,
        models={},
        device=DeviceStatus(class_="cpu"),
        device_class=INSTALLATION.device_class("cpu"),
        environment={},
    )
    body = build(request, INSTALLATION)
    verify(body, INSTALLATION)
    return json.loads(body)


def test_a_task_with_a_queue_of_kueue_has_a_pod_that_kueue_takes_up() -> None:
    made = pod(LABELLED)
    labels = made["metadata"]["labels"]
    assert {name: labels.get(name) for name in (QUEUE_LABEL, PRIORITY_LABEL, MANAGED_LABEL, "other")} == {
        QUEUE_LABEL: "team",
        PRIORITY_LABEL: "high",
        MANAGED_LABEL: "true",
        "other": None,
    }
    assert made["spec"]["schedulingGates"] == [{"name": GATE}]
    assert "finalizers" not in made["metadata"]


@pytest.mark.parametrize("labels", [{}, {QUEUE_LABEL: ""}, {PRIORITY_LABEL: "high"}, {MANAGED_LABEL: "true"}])
def test_without_a_queue_nothing_of_kueue_is_on_the_pod(labels: dict[str, str]) -> None:
    made = pod(labels)
    assert "schedulingGates" not in made["spec"]
    assert not [name for name in made["metadata"]["labels"] if "kueue" in name]


def _no_gate(made: dict[str, Any]) -> None:
    del made["spec"]["schedulingGates"]


def _other_gate(made: dict[str, Any]) -> None:
    made["spec"]["schedulingGates"].append({"name": "example.com/never"})


def _no_label(made: dict[str, Any]) -> None:
    for name in (QUEUE_LABEL, PRIORITY_LABEL, MANAGED_LABEL):
        del made["metadata"]["labels"][name]


def _other_label(made: dict[str, Any]) -> None:
    made["metadata"]["labels"]["kueue.x-k8s.io/pod-group-name"] = "all"


@pytest.mark.parametrize("spoil", [_no_gate, _other_gate, _no_label, _other_label])
def test_a_pod_that_has_some_of_it_never_leaves_the_controller(spoil: Any) -> None:
    made = pod(LABELLED)
    spoil(made)
    with pytest.raises(PodRejected):
        verify(json.dumps(made).encode(), INSTALLATION)


def ungate(server: FakeApiServer, name: str) -> None:
    """What Kueue does once there is quota."""
    server.patch("pods", name, {"spec": {"schedulingGates": None}})


async def test_a_gated_pod_waits_with_its_reason_and_holds_no_turn() -> None:
    async with FakeApiServer(bookmark_seconds=0.5) as server:
        server.put("nodes", node())
        async with program(server, "maxRunningTasks=1"):
            server.put("agenttasks", task("gated") | {"metadata": {"name": "gated", "labels": LABELLED}})
            waiting = await phase(server, "gated", "Starting")
            assert waiting["reason"] == "SchedulingGated"
            assert GATE in waiting["message"]
            server.put("agenttasks", task("other"))
            await server.until(lambda: len(server.objects("pods")) == 2)
            names = {one["metadata"]["ownerReferences"][0]["name"]: one["metadata"]["name"] for one in server.objects("pods")}
            ungate(server, names["gated"])
            for name in names.values():
                await server.kubelet.run_pod(name, said())
            found = [await ended(server, name) for name in names]

    assert [one["phase"] for one in found] == ["Succeeded", "Succeeded"]
