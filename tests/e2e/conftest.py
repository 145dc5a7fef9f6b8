"""One installation by helm for all end-to-end tests, with models that answer, refuse and misbehave."""

import base64
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agenttask.api.checkpoint import decode
from tests.e2e.cluster import Namespace

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "agenttask-operator"
ALLOWED_HOSTS = ("llm:8080", "169.254.169.254")
"""The second is an admin's mistake: nothing there is ever connected to."""


def model(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": name}, "spec": spec}


def endpoint_pod(name: str, image: str, command: list[str], *, port: int, files: Mapping[str, str]) -> list[dict[str, Any]]:
    """A server as a pod that runs one of `files`, which lie in /script, and a service of that name."""
    labels = {"app": name}
    container = {
        "name": "endpoint",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        # A busy machine answers late; a pod that is not ready loses its service, and with it all calls that come then.
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 30},
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "script", "secret": {"secretName": f"{name}-files"}}],
    }
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-files"}, "stringData": dict(files)},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": labels, "ports": [{"port": port}]}},
    ]


def endpoint_objects(image: str) -> list[dict[str, Any]]:
    """The endpoint that does what its path says (llm_endpoint.py)."""
    script = (Path(__file__).parent / "llm_endpoint.py").read_text()
    return endpoint_pod("llm", image, ["python3", "/script/llm_endpoint.py", "8080"], port=8080, files={"llm_endpoint.py": script})


def models() -> list[dict[str, Any]]:
    credentials = {"secretKeyRef": {"name": "model-key", "key": "key"}}
    answers = [
        model(f"answers-{path}", {"client": "openai", "endpoint": f"http://llm:8080/{path}/v1", "model": "scripted"})
        for path in ("401", "404", "429", "500", "garbage", "shape")
    ]
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model-key"}, "stringData": {"key": "TOPSECRET"}},
        model("plain", {"client": "scripted", "model": "echo"}),  # the examples have an `echo` of their own
        model("remote", {"client": "openai", "endpoint": "http://llm:8080/ok/v1", "model": "scripted", "credentials": credentials}),
        model("refusing", {"client": "openai", "endpoint": "http://127.0.0.1:9/v1", "model": "none"}),
        *answers,
    ]


def values(images: Mapping[str, str], **more: str) -> list[str]:
    """The chart's image values from the images that `make images` made."""
    found = {}
    for key, name in (("controller", "controller"), ("runner", "runner"), ("runnerTorch", "runner-demo")):
        repository, _, tag = images[name].rpartition(":")
        found |= {f"images.{key}.repository": repository, f"images.{key}.tag": tag}
    return [argument for key, value in {**found, **more}.items() for argument in ("--set-string", f"{key}={value}")]


def install(namespace: Namespace, images: Mapping[str, str], *, structures: Mapping[str, Any] | None = None, **more: str) -> None:
    """`helm install` and wait until the controller is ready; `structures` are values that are no texts."""
    command = [
        "helm",
        "install",
        "agenttask",
        str(CHART),
        "-n",
        namespace.name,
        "--create-namespace",
        "--take-ownership",
        "--force-conflicts",
        "--wait",
        "--timeout=3m",
    ]
    for key, value in (structures or {}).items():
        command += ["--set-json", f"{key}={json.dumps(value)}"]
    done = subprocess.run([*command, *values(images, **more)], env=namespace.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + namespace.kubectl("describe", "pods", check=False)[-4000:]


def records(release: Namespace, name: str) -> list[dict[str, Any]]:
    """The AgentTaskRecords of a task."""
    found = json.loads(release.kubectl("get", "atr", "-o", "json"))["items"]
    return [each for each in found if each["task"] == name]


def kept_steps(release: Namespace, name: str) -> list[str]:
    """The steps in the task's stored checkpoint."""
    found = [each["checkpoint"] for each in records(release, name) if each.get("checkpoint")]
    return [one.name for one in decode(base64.b64decode(found[0])).steps] if found else []


def until_kept(release: Namespace, names: Iterable[str], steps: list[str], *, seconds: float = 120) -> None:
    """Wait until the stored checkpoint of each of these tasks has these steps: status and checkpoint come each in their own time."""
    end = time.monotonic() + seconds
    while missing := {name: found for name in names if (found := kept_steps(release, name)) != steps}:
        assert time.monotonic() < end, missing
        time.sleep(0.5)


def uninstall(namespace: Namespace) -> None:
    """`helm uninstall`, and the namespace with all that is in it; the CRDs stay."""
    subprocess.run(["helm", "uninstall", "agenttask", "-n", namespace.name], env=namespace.environment, capture_output=True, check=False)
    namespace.kubectl("delete", "namespace", namespace.name, "--wait=false", check=False)


@pytest.fixture(scope="session")
def node_address(cluster_environment: dict[str, str]) -> str:
    """The node's address, at which pods reach a server that a test runs beside it."""
    anywhere = Namespace(name="default", environment=cluster_environment)
    address = anywhere.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}")
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            pytest.skip(f"the node's address {address} is not of this machine, pods could not reach a server here: {error}")
    return address


@pytest.fixture(scope="session")
def release(cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """A namespace with the controller installed, the endpoint running and the models applied."""
    namespace = Namespace(name=f"e2e-{secrets.token_hex(3)}", environment=cluster_environment)
    try:
        install(namespace, images, allowedHosts=f"{{{','.join(ALLOWED_HOSTS)}}}")
        namespace.apply(*endpoint_objects(images["runner"]), *models())
        namespace.kubectl("wait", "--for=condition=Ready", "pod/llm", "--timeout=120s")
        yield namespace
    finally:
        uninstall(namespace)
