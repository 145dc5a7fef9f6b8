"""One namespace on the real API server, with the CRDs of this checkout."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.kubectl import Kubectl, find, unreachable

CRDS = Path(__file__).parents[3] / "crds"


@pytest.fixture(scope="session")
def kubectl() -> Iterator[Kubectl]:
    """kubectl in a namespace of its own; applying the CRDs of the checkout is itself a test of their CEL cost."""
    program = find("kubectl")
    reason = unreachable(program)
    if program is None or reason is not None:
        pytest.skip(reason or "no kubectl")
    kubectl = Kubectl(program, f"crds-test-{secrets.token_hex(4)}")
    kubectl.must("apply", "-f", str(CRDS))
    kubectl.must("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=120s")
    end = time.monotonic() + 120
    while any(kubectl("explain", f"{kind}.spec").returncode for kind in ("agenttask", "agentmodel", "agentqueue")):
        assert time.monotonic() < end, "the kinds are established, and not published"
        time.sleep(0.2)
    kubectl.must("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(autouse=True)
def _clean(kubectl: Kubectl) -> Iterator[None]:
    """Every test begins without objects of others."""
    yield
    kubectl.must("delete", "agents", "--all", "--wait=true")
