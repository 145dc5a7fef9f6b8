"""Dynamic resource allocation on a real cluster: scheduler, kubelet and a driver give a task's pod the device that it claims."""

import json
import re
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import install, uninstall
from tests.e2e.dra_driver import Driver, dra_driver
from tests.e2e.held import held, let_go

pytestmark = pytest.mark.cluster
PAGE = Path(__file__).parents[2] / "docs" / "devices.md"
OBJECTS, VALUES, *_ = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text().partition("### Devices by claims")[2], re.MULTILINE | re.DOTALL)
CLASSES = [
    {"name": "claimed", "kind": "cuda", "resourceClaimTemplate": "one-device"},
    {"name": "misread", "kind": "cuda", "resourceClaimTemplate": "misread"},
    *({key: value for key, value in one.items() if key != "image"} for one in yaml.safe_load(VALUES)["deviceClasses"]),
]
HOLD = held("say", "echo done")
HERE = {"name": "say", "exec": {"command": ["echo", "here"]}}
DEVICES = 2


def task(name: str, step: dict[str, Any], *classes: str, patience: int = 2, **device: Any) -> dict[str, Any]:
    spec = {
        "steps": [step],
        "device": {"classes": list(classes), "fallbackAfterSeconds": patience, **device},
    }
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def namespace(cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """An installation with classes of claims."""
    found = Namespace(name=f"e2e-dra-{secrets.token_hex(3)}", environment=cluster_environment)
    try:
        install(found, images, structures={"deviceClasses": CLASSES})
        yield found
    finally:
        uninstall(found)


@pytest.fixture
def driver(namespace: Namespace, tmp_path: Path) -> Iterator[Driver]:
    """A driver of its own for each test, and templates for its devices; the tasks of a test end before the driver does."""
    with dra_driver(namespace, tmp_path / "driver.log", devices=DEVICES) as found:
        namespace.apply(found.template("one-device", {"colour": "blue"}), found.template("misread", {"colour": ["no", "text"]}))
        yield found
        if found.process is None:
            found.start(DEVICES)  # pods with its devices do not end without it
        namespace.kubectl("delete", "agenttasks,resourceclaimtemplates", "--all")
        namespace.kubectl("delete", "pods", "-l", "agenttask.dev/task-name", "--wait=true")


def claims(namespace: Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(namespace.kubectl("get", "resourceclaims", "-o", "json"))["items"]
    return found


def no_claim_is_left(namespace: Namespace, driver: Driver, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while left := [one["metadata"]["name"] for one in claims(namespace)] + driver.prepared():
        assert time.monotonic() < end, left
        time.sleep(0.5)


def some_claims_are_left(namespace: Namespace, count: int, seconds: float = 60) -> None:
    """That of a pod which is gone goes later."""
    end = time.monotonic() + seconds
    while len(found := claims(namespace)) != count:
        assert time.monotonic() < end, [one["metadata"]["name"] for one in found]
        time.sleep(0.5)


def verdicts(status: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(one["class"], one["attempt"], one["verdict"]) for one in status["device"].get("tried", [])]


def test_a_pod_runs_on_the_device_that_it_claims_and_the_claim_goes_with_it(namespace: Namespace, driver: Driver) -> None:
    namespace.apply(task("runs", HOLD, "claimed", "cpu", patience=120, gpu={"count": 1}))
    running = namespace.until("runs", lambda status: status.get("phase") == "Running", seconds=120)
    (claim,) = claims(namespace)
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    (pod,) = namespace.pods("agenttask.dev/task-name=runs")
    variables = namespace.kubectl("exec", pod["metadata"]["name"], "--", "env")
    let_go(namespace, running["podName"])
    status = namespace.ended("runs")

    assert (result["driver"], result["pool"]) == (driver.name, driver.node)
    assert [one["name"] for one in claim["status"]["reservedFor"]] == [pod["metadata"]["name"]]
    assert "user_colour=blue" in variables.split(), "the container has nothing of the driver: containerd before 1.7, or without enable_cdi"
    assert (status["phase"], status["attempt"], status["output"]) == ("Succeeded", 1, "done\n"), status
    assert running["device"]["class"] == status["device"]["class"] == "claimed"
    assert status["device"]["considered"][0]["class"] == "claimed"
    assert "tried" not in status["device"]
    no_claim_is_left(namespace, driver)  # it is not the finished pod's any more, which is still there
    assert namespace.pods("agenttask.dev/task-name=runs")


def test_a_device_that_others_hold_is_given_up_for_another_class_or_waited_for(namespace: Namespace, driver: Driver) -> None:
    holders = [f"holds-{index}" for index in range(DEVICES)]
    namespace.apply(*(task(name, HOLD, "claimed") for name in holders))
    pods = [namespace.until(name, lambda status: status.get("phase") == "Running", seconds=120)["podName"] for name in holders]
    # The claim is made and looked at by the scheduler before the class is given up, or the verdict were that there is none.
    namespace.apply(task("moves", HERE, "claimed", "cpu", patience=6), task("waits", HERE, "claimed"))
    moved = namespace.ended("moves")
    waiting = namespace.until("waits", lambda status: status.get("reason") == "Unschedulable", seconds=60)
    some_claims_are_left(namespace, DEVICES + 1)
    for pod in pods:
        let_go(namespace, pod)
    waited = namespace.ended("waits")

    assert (moved["phase"], moved["attempt"], moved["device"]["class"]) == ("Succeeded", 2, "cpu"), moved
    ((class_, attempt, verdict),) = verdicts(moved)
    assert (class_, attempt) == ("claimed", 1)
    assert verdict.startswith("unschedulable for ")
    assert "cannot allocate all claims" in verdict
    assert verdict in moved["device"]["considered"][0]["verdict"]
    assert "cannot allocate all claims" in waiting["message"]
    assert (waited["phase"], waited["attempt"], waited["device"]["class"]) == ("Succeeded", 1, "claimed"), waited
    no_claim_is_left(namespace, driver)


def test_a_claim_that_the_driver_refuses_is_told_in_its_words_and_given_up(namespace: Namespace, driver: Driver) -> None:
    # A slow node has said nothing when it is asked first, and is asked again after ten seconds: the reason still shows for a while.
    namespace.apply(task("moves", HERE, "misread", "cpu", patience=20), task("stays", HERE, "misread"))
    seen = namespace.until("moves", lambda status: status.get("reason") == "WaitingForDevice", seconds=60)
    moved = namespace.ended("moves")
    stays = namespace.until("stays", lambda status: status.get("reason") == "WaitingForDevice", seconds=60)

    told = "decoding user parameters: json: cannot unmarshal array"
    assert seen["message"].startswith(f"node {driver.node} does not prepare the pod's device: ")
    assert told in seen["message"]
    assert (moved["phase"], moved["attempt"], moved["device"]["class"]) == ("Succeeded", 2, "cpu"), moved
    assert not {"failures", "infrastructureRestarts"} & moved.keys()
    ((class_, attempt, verdict),) = verdicts(moved)
    assert (class_, attempt) == ("misread", 1)
    assert verdict.startswith(f"device not prepared by node {driver.node} for ")
    assert told in verdict
    assert (stays["phase"], stays["podName"].rpartition("-")[2]) == ("Starting", "1")
    assert told in stays["message"]
    namespace.kubectl("delete", "agenttask", "stays")
    no_claim_is_left(namespace, driver)


def test_a_driver_that_died_is_told_and_a_task_of_that_class_alone_runs_when_it_is_back(namespace: Namespace, driver: Driver) -> None:
    driver.end(signal.SIGKILL)  # its devices stay published for a while
    namespace.apply(task("moves", HERE, "claimed", "cpu"), task("stays", HERE, "claimed"))
    stays = namespace.until("stays", lambda status: status.get("reason") == "WaitingForDevice", seconds=120)
    moved = namespace.ended("moves")
    driver.start(DEVICES)
    back = namespace.ended("stays")

    assert f"{driver.name}/dra.sock" in stays["message"] or "is not registered" in stays["message"], stays  # refused or reset, or forgotten
    assert (moved["phase"], moved["attempt"], moved["device"]["class"]) == ("Succeeded", 2, "cpu"), moved
    assert verdicts(moved)[0][2].startswith(f"device not prepared by node {driver.node} for ")
    assert not {"failures", "infrastructureRestarts"} & moved.keys()
    assert (back["phase"], back["attempt"], back["device"]["class"]) == ("Succeeded", 1, "claimed"), back
    no_claim_is_left(namespace, driver)


def test_a_template_that_the_namespace_lacks_is_named_and_waited_for(namespace: Namespace, driver: Driver) -> None:
    """What it lacks is what the page on devices has a reader copy."""
    namespace.apply(task("waits", HOLD, "dra", gpu={"count": 2}))
    waits = namespace.until("waits", lambda status: status.get("reason") == "Unschedulable", seconds=60)
    namespace.apply(OBJECTS.replace("gpu.example.com", driver.name).replace(", namespace: agents", ""))
    # Claims are tried again after ever longer pauses, as long as all of the waiting before.
    running = namespace.until("waits", lambda status: status.get("phase") == "Running", seconds=180)
    devices = [one["status"]["allocation"]["devices"]["results"][0]["device"] for one in claims(namespace)]
    let_go(namespace, running["podName"])
    status = namespace.ended("waits")

    assert waits["message"] == "no claim is made from ResourceClaimTemplate 'one-gpu' yet; see whether the namespace has it"
    assert sorted(devices) == ["device-00", "device-01"]
    assert (status["phase"], status["attempt"], status["device"]["class"]) == ("Succeeded", 1, "dra"), status
    no_claim_is_left(namespace, driver)
