"""Devices on a real cluster: a class without a node is given up for the next, with the reasons; and the rest of a task's pod."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, node_folder
from tests.e2e.conftest import install, uninstall

pytestmark = pytest.mark.cluster
NPU = "example.com/npu"
CLASSES = [
    {"name": "npu", "kind": "cpu", "resources": {NPU: 1}},
    {"name": "labelled", "kind": "cpu", "nodeSelector": {"example.com/never-set": "yes"}, "cost": "0.5"},
    {"name": "no-gpu", "kind": "cuda", "resources": {NPU: 1}},
    {"name": "claimed", "kind": "cuda", "resourceClaimTemplate": "no-such-template"},
    {"name": "cpu", "kind": "cpu", "cost": 1},
    {"name": "remote", "kind": "remote"},
]
LISTS = {"secretGlobs": ["agents-*"], "allowedTolerations": [{"key": "spot", "operator": "Exists"}], "allowedServiceAccounts": ["agents"]}


def task(name: str, command: str, **spec: Any) -> dict[str, Any]:
    steps = [{"name": "say", "exec": {"command": ["sh", "-c", command]}}]
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": {"steps": steps, **spec}}


@pytest.fixture(scope="module")
def devices(cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """An installation with classes that this cluster has nothing for."""
    namespace = Namespace(name=f"e2e-devices-{secrets.token_hex(3)}", environment=cluster_environment)
    try:
        install(namespace, images, structures={"deviceClasses": CLASSES, **LISTS})
        yield namespace
    finally:
        uninstall(namespace)


@pytest.fixture
def one_npu(devices: Namespace) -> Iterator[str]:
    """The node says that it has two npus, as a device plugin would make it say, and one is left: the controller has seen them.

    A task takes the other one. Nothing else tells that the controller knows: of nodes and of tasks it hears apart.
    """
    node = devices.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    path = f"/status/capacity/{NPU.replace('/', '~1')}"

    def patch(*operations: dict[str, str]) -> None:
        devices.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(operations))

    try:
        patch({"op": "add", "path": path, "value": "2"}, {"op": "add", "path": path.replace("capacity", "allocatable"), "value": "2"})
        devices.apply(task("takes-one", "sleep 600", device={"classes": ["npu"]}))
        devices.until("takes-one", lambda status: status.get("phase") == "Running", seconds=90)
        yield node
    finally:
        try:
            devices.kubectl("delete", "agenttask", "takes-one", "--ignore-not-found")
            devices.kubectl("wait", "--for=delete", "pod", "-l", "agenttask.dev/task-name=takes-one", "--timeout=100s")
        finally:
            patch({"op": "remove", "path": path}, {"op": "remove", "path": path.replace("capacity", "allocatable")})


def given_up(status: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["class"], one["attempt"]) for one in status["device"].get("tried", [])]


def test_a_class_that_no_node_offers_is_passed_over_at_once(devices: Namespace) -> None:
    devices.apply(task("absent", "echo here", device={"classes": ["npu", "cpu"]}))

    status = devices.ended("absent")

    assert (status["phase"], status["attempt"], status["device"]["class"]) == ("Succeeded", 1, "cpu"), status
    assert status["device"]["considered"][0] == {"class": "npu", "verdict": f"no node offers {NPU}"}


def test_a_pod_without_a_node_falls_back_and_says_why(devices: Namespace) -> None:
    """Nobody has set the label, so nobody knows: the scheduler is asked, and time decides."""
    devices.apply(task("falls", "echo attempt {{ attempt }}", device={"classes": ["labelled", "cpu"], "fallbackAfterSeconds": 2}))

    status = devices.ended("falls")

    assert (status["phase"], status["attempt"], status["device"]["class"]) == ("Succeeded", 2, "cpu"), status
    assert status["output"] == "attempt 2\n"
    assert not {"failures", "infrastructureRestarts"} & status.keys()
    assert given_up(status) == [("labelled", 1)]
    assert "didn't match Pod's node affinity/selector" in status["device"]["tried"][0]["verdict"]
    assert "unschedulable for" in status["device"]["considered"][0]["verdict"]
    assert "unschedulable for" in status["device"]["reason"]
    assert [pod["metadata"]["name"].rpartition("-")[2] for pod in devices.pods("agenttask.dev/task-name=falls")] == ["2"]


def test_a_claim_that_is_never_made_falls_back_too(devices: Namespace) -> None:
    devices.apply(task("claims", "echo here", device={"classes": ["claimed", "cpu"], "fallbackAfterSeconds": 1}))

    status = devices.ended("claims")

    assert (status["phase"], status["device"]["class"]) == ("Succeeded", "cpu"), status
    assert given_up(status) == [("claimed", 1)]


def test_a_device_that_the_node_has_is_used_and_one_that_others_hold_is_given_up(devices: Namespace, one_npu: str) -> None:
    devices.apply(task("uses", "echo here", device={"classes": ["npu", "cpu"], "fallbackAfterSeconds": 20}))
    status = devices.ended("uses")
    assert (status["phase"], status["device"]["class"], status["nodeName"]) == ("Succeeded", "npu", one_npu), status

    limits = {"limits": {NPU: "1"}}
    image = devices.pods("agenttask.dev/task-name=uses")[0]["spec"]["containers"][0]["image"]
    holder = {"name": "hold", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"], "resources": limits}
    spec = {"containers": [holder], "terminationGracePeriodSeconds": 0}
    devices.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": spec})
    devices.kubectl("wait", "--for=condition=Ready", "pod/holder", "--timeout=60s")
    devices.apply(task("crowded", "echo here", device={"classes": ["npu", "cpu"], "fallbackAfterSeconds": 2}))
    status = devices.ended("crowded")
    devices.kubectl("delete", "pod", "holder", "--wait=true")

    assert (status["phase"], status["device"]["class"], given_up(status)) == ("Succeeded", "cpu", [("npu", 1)]), status
    assert f"Insufficient {NPU}" in status["device"]["tried"][0]["verdict"]


def test_a_device_that_fails_in_the_pod_is_given_up_for_the_next_class(devices: Namespace, one_npu: str) -> None:
    """The node says that it has two; in the pod there is none, and the runner's report says so before the model is loaded."""
    weights = {"client": "local", "model": "smollm2", "local": {"path": "/models/smollm2", "memory": "256Mi"}}
    ask = {
        "steps": [{"name": "ask", "chat": {"model": "weights", "prompt": "What is the capital of France?", "maxTokens": 12}}],
        "device": {"classes": ["no-gpu", "cpu"]},
        "pod": {"resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}},
    }
    devices.apply(
        {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": "weights"}, "spec": weights},
        {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "fails-over"}, "spec": ask},
    )

    status = devices.ended("fails-over", seconds=300)

    assert (status["phase"], status["attempt"], status["device"]["class"]) == ("Succeeded", 2, "cpu"), status
    assert given_up(status) == [("no-gpu", 1)]
    assert "CUDA" in status["device"]["tried"][0]["verdict"]
    assert not {"failures", "infrastructureRestarts"} & status.keys()
    assert "Paris" in status["output"]
    first = next(pod for pod in devices.pods("agenttask.dev/task-name=fails-over") if pod["metadata"]["name"].endswith("-1"))
    assert first["spec"]["nodeName"] == one_npu


def test_cheapest_goes_by_cost_and_a_local_model_is_elsewhere_on_remote(devices: Namespace) -> None:
    model = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel"}
    local = {"package": "not-installed", "remoteModel": "elsewhere"}
    devices.apply(
        {**model, "metadata": {"name": "here"}, "spec": {"client": "local", "model": "m", "local": local}},
        task("cheap", "echo here", device={"strategy": "cheapest", "classes": ["cpu", "labelled"], "fallbackAfterSeconds": 1}),
    )
    cheap = devices.ended("cheap")
    ask = {"steps": [{"name": "ask", "chat": {"model": "here", "prompt": "hello"}}], "device": {"classes": ["remote"]}}
    devices.apply({"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "asks"}, "spec": ask})
    waits = devices.until("asks", lambda status: status.get("reason") == "WaitingForDevice", seconds=60)
    devices.apply({**model, "metadata": {"name": "elsewhere"}, "spec": {"client": "scripted", "model": "echo"}})
    status = devices.ended("asks")

    assert given_up(cheap) == [("labelled", 1)], cheap
    assert waits["message"] == "remote: there is no AgentModel 'elsewhere', the remoteModel of 'here'"
    assert (status["phase"], status["device"]["class"], status["models"]) == ("Succeeded", "remote", "here"), status
    assert "hello" in status["output"]


def test_a_workspace_on_a_claim_outlives_the_pod(devices: Namespace, images: Mapping[str, str]) -> None:
    name = f"{devices.name}-work"
    workspace = {"persistentVolumeClaim": {"claimName": "work"}}
    devices.apply(task("writes", "echo kept > /workspace/note; ls /workspace", workspace=workspace))
    waits = devices.until("writes", lambda status: status.get("reason") == "MissingInput", seconds=60)
    # The node's folder is root's; a storage driver would heed the pod's fsGroup.
    opens = {
        "name": "open",
        "image": images["runner"],
        "command": ["chmod", "0777", "/x"],
        "volumeMounts": [{"name": "x", "mountPath": "/x"}],
    }
    opener = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 0},
        "containers": [opens],
        "volumes": [{"name": "x", "hostPath": {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"}}],
    }
    devices.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "opener"}, "spec": opener})
    devices.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/opener", "--timeout=60s")
    try:
        devices.apply(*node_folder(name, claim="work", mode="ReadWriteOnce"))
        written = devices.ended("writes")
        devices.apply(task("reads", "cat note", workspace=workspace))
        status = devices.ended("reads")
    finally:
        devices.kubectl("delete", "agenttasks", "writes", "reads", "--ignore-not-found")
        devices.kubectl("delete", "persistentvolumeclaim", "work", "--wait=false", "--ignore-not-found")
        devices.kubectl("delete", "persistentvolume", name, "--wait=false", "--ignore-not-found")

    assert waits["message"].endswith("has no PersistentVolumeClaim 'work' yet")
    assert written["phase"] == "Succeeded", written
    assert (status["phase"], status["output"]) == ("Succeeded", "kept\n"), status


def test_volumes_labels_tolerations_and_accounts_are_in_the_pod(devices: Namespace) -> None:
    devices.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "agents-token"}, "stringData": {"token": "s3cret"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"a": "word"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agents"}},
        task(
            "options",
            "cat /mnt/token/token /srv/words/a; echo x > /data/x && cat /data/x; ls /var/run/secrets 2>&1 | grep -c kubernetes || true",
            pod={
                "labels": {"team": "agents"},
                "annotations": {"example.com/why": "a test"},
                "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
                "serviceAccountName": "agents",
                "volumes": [
                    {"name": "token", "mountPath": "/mnt/token", "secret": {"secretName": "agents-token"}},
                    {"name": "words", "mountPath": "/srv/words", "configMap": {"name": "words"}},
                    {"name": "room", "mountPath": "/data", "emptyDir": {"sizeLimit": "1Mi"}},
                ],
            },
        ),
        task("refused", "true", pod={"serviceAccountName": "default"}),
    )

    status, refused = devices.ended("options"), devices.ended("refused")

    assert (status["phase"], status["output"].split()) == ("Succeeded", ["s3cretwordx", "0"]), status
    (pod,) = devices.pods("team=agents")
    assert (pod["metadata"]["annotations"]["example.com/why"], pod["spec"]["serviceAccountName"]) == ("a test", "agents")
    assert refused["reason"] == "InvalidTask"
    assert refused["message"] == (
        "spec.pod.serviceAccountName: tasks may not take the service account 'default'; "
        "the installation allows: agents (allowedServiceAccounts)"
    )
