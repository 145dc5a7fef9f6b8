"""What an AgentModel brings into a pod as files: certificates of a ConfigMap and weights of a claim, of a fallback too."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, node_folder
from tests.e2e.conftest import model
from tests.e2e.test_tasks import task

pytestmark = pytest.mark.cluster

CERTIFICATES = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"tls.crt": "CERTIFICATE", "other": "x"}}
LOOK = """cat /etc/agenttask-ca/*/ca.pem; ls -d /mnt/models/*; touch /mnt/models/claimed/x 2>&1 | grep -o Read-only"""


@pytest.fixture
def weights(release: Namespace) -> Iterator[list[dict[str, Any]]]:
    """The objects of a claim, applied by the test; removed after it."""
    name = f"{release.name}-weights"
    yield node_folder(name, claim="weights", mode="ReadOnlyMany")
    release.kubectl("delete", "agenttasks", "looks", "--ignore-not-found")
    release.kubectl("delete", "persistentvolumeclaim", "weights", "--ignore-not-found", "--wait=false")
    release.kubectl("delete", "persistentvolume", name, "--ignore-not-found", "--wait=false")


def test_certificates_and_weights_are_waited_for_and_then_lie_in_the_pod(release: Namespace, weights: list[dict[str, Any]]) -> None:
    bundle = {"configMapKeyRef": {"name": "ca", "key": "tls.crt"}}
    release.apply(
        model("bundled", {"client": "scripted", "model": "echo", "caBundle": bundle, "fallback": ["claimed"]}),
        task(
            "looks",
            {
                "steps": [
                    {"name": "ask", "chat": {"model": "bundled", "prompt": "x"}},
                    {"name": "look", "exec": {"command": ["sh", "-c", LOOK]}},
                ]
            },
        ),
    )
    release.until("looks", lambda status: status.get("reason") == "UnknownModel", seconds=60)
    claim = {"persistentVolumeClaim": {"claimName": "weights"}}
    release.apply(model("claimed", {"client": "scripted", "model": "echo", "local": claim}))
    waits = release.until("looks", lambda status: status.get("reason") == "MissingInput", seconds=60)
    release.apply(CERTIFICATES)
    release.apply(*weights)
    status = release.ended("looks")

    assert waits["message"].endswith("has no ConfigMap 'ca' yet")
    assert (status["phase"], status["models"]) == ("Succeeded", "bundled")
    assert status["output"].split() == ["CERTIFICATE/mnt/models/claimed", "Read-only"]
