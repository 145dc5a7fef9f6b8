"""One installation by helm for all end-to-end tests, with models that answer, refuse and misbehave."""

import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "agenttask-operator"


def model(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentModel", "metadata": {"name": name}, "spec": spec}


def endpoint_objects(image: str) -> list[dict[str, Any]]:
    """The misbehaving endpoint (llm_endpoint.py) as a pod and a service."""
    labels = {"app": "llm-endpoint"}
    container = {
        "name": "endpoint",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/script/llm_endpoint.py", "8080"],
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    script = (Path(__file__).parent / "llm_endpoint.py").read_text()
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "llm-endpoint"}, "data": {"llm_endpoint.py": script}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "llm-endpoint", "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "containers": [container],
                "volumes": [{"name": "script", "configMap": {"name": "llm-endpoint"}}],
            },
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llm"}, "spec": {"selector": labels, "ports": [{"port": 8080}]}},
    ]


def models() -> list[dict[str, Any]]:
    credentials = {"secretKeyRef": {"name": "model-key", "key": "key"}}
    answers = [
        model(f"answers-{path}", {"client": "openai", "endpoint": f"http://llm:8080/{path}/v1", "model": "scripted"})
        for path in ("401", "404", "429", "garbage")
    ]
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model-key"}, "stringData": {"key": "TOPSECRET"}},
        model("echo", {"client": "scripted", "model": "echo"}),
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


def install(namespace: Namespace, images: Mapping[str, str], **more: str) -> None:
    """`helm install` and wait until the controller is ready."""
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
    done = subprocess.run([*command, *values(images, **more)], env=namespace.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + namespace.kubectl("describe", "pods", check=False)[-4000:]


def uninstall(namespace: Namespace) -> None:
    """`helm uninstall`, and the namespace with all that is in it; the CRDs stay."""
    subprocess.run(["helm", "uninstall", "agenttask", "-n", namespace.name], env=namespace.environment, capture_output=True, check=False)
    namespace.kubectl("delete", "namespace", namespace.name, "--wait=false", check=False)


@pytest.fixture(scope="session")
def release(cluster_environment: dict[str, str], images: Mapping[str, str]) -> Iterator[Namespace]:
    """A namespace with the controller installed, the endpoint running and the models applied."""
    namespace = Namespace(name=f"e2e-{secrets.token_hex(3)}", environment=cluster_environment)
    try:
        install(namespace, images)
        namespace.apply(*endpoint_objects(images["runner"]), *models())
        namespace.kubectl("wait", "--for=condition=Ready", "pod/llm-endpoint", "--timeout=120s")
        yield namespace
    finally:
        uninstall(namespace)
